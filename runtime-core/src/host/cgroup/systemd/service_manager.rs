//! Runs in: RUNTIME. What is asked of a service manager: to start, change and stop a unit, and to move a
//! process into one. Says what a refusal means. How the question gets there is `bus.rs`; which properties,
//! `properties.rs`.

use std::time::{Duration, Instant};

use zbus::wire::Variant;

use super::bus::{Bus, Manager, PATIENCE, Refusal};
use super::message::{Body, Target};
use crate::plan::cgroup::systemd::name;
use crate::plan::cgroup::systemd::properties::Property;
use crate::{Cancel, Errno, Error, ErrorKind, Result};

const MANAGER: Target<'static> = Target {
    name: "org.freedesktop.systemd1",
    path: "/org/freedesktop/systemd1",
    interface: "org.freedesktop.systemd1.Manager",
};

const PROPERTIES: Target<'static> = Target {
    interface: "org.freedesktop.DBus.Properties",
    ..MANAGER
};

/// Jobs of ours may replace others of the same unit: nobody else has a say in a container's unit.
const MODE: &str = "replace";

/// How long systemd may be away while it executes itself anew.
const RETURN: Duration = Duration::from_secs(5);

type NamedValues<'a> = Vec<(&'a str, &'a Variant<'static>)>;

/// A connection to systemd.
#[derive(Debug)]
pub(super) struct ServiceManager {
    bus: Bus,
    manager: Manager,
    cancel: Cancel,
}

impl ServiceManager {
    /// Until `cancel` comes: all that is asked of this connection.
    pub(super) fn connect(manager: Manager, cancel: &Cancel) -> Result<Self> {
        Bus::connect(manager, cancel).map(|bus| Self {
            bus,
            manager,
            cancel: cancel.clone(),
        })
    }

    /// After [`is_lost`]: systemd closes all connections when it executes itself anew (`daemon-reexec`, an
    /// upgrade), and listens again soon after.
    pub(super) fn reconnect(&mut self) -> Result<()> {
        let deadline = Instant::now() + RETURN;
        let mut pause = Duration::from_millis(10);
        loop {
            self.cancel.check()?;
            match Bus::connect(self.manager, &self.cancel) {
                Ok(bus) => {
                    self.bus = bus;
                    return Ok(());
                }
                Err(error) if Instant::now() > deadline => return Err(error),
                Err(_) => std::thread::sleep(pause),
            }
            pause *= 2;
        }
    }

    /// Asks again what does no harm when it is asked twice.
    fn repeatedly<T>(&mut self, ask: impl Fn(&mut Self) -> Result<T>) -> Result<T> {
        match ask(self) {
            Err(error) if is_lost(&error) => {
                self.reconnect()?;
                ask(self)
            }
            result => result,
        }
    }

    /// The cgroup of the service manager, as a path from the root of the tree; units are below it.
    pub(super) fn control_group(&mut self) -> Result<String> {
        let doing = |error: Error| error.doing("ask systemd for its own cgroup");
        let answer = self
            .bus
            .call(PROPERTIES, "Get", &(MANAGER.interface, "ControlGroup"))?;
        let body = answer.map_err(|refusal| doing(explain(&refusal, &[])))?;
        body.string_in_variant()
            .map_err(|reason| doing(self.bus.failed(reason)))
    }

    /// Starts a transient unit, and returns when it is there. A dead unit of the same name is cleared away
    /// first. Properties that this systemd does not know are left out, if nothing depends on them.
    pub(super) fn start(&mut self, unit: &str, mut properties: Vec<Property>) -> Result<()> {
        let doing = |error: Error| error.doing(format!("start the unit {unit}"));
        let mut was_cleared = false;
        loop {
            let auxiliary_units: Vec<(&str, NamedValues<'_>)> = Vec::new();
            let arguments = (unit, MODE, named(&properties), auxiliary_units);
            let refusal = match self.bus.call(MANAGER, "StartTransientUnit", &arguments)? {
                Ok(body) => {
                    return self
                        .wait(&body)
                        .and_then(|result| started(&result))
                        .map_err(doing);
                }
                Err(refusal) => refusal,
            };
            // A unit that failed stays until somebody has taken notice. One that runs stays anyway.
            if refusal.is("UnitExists") && !was_cleared {
                self.reset_failed(unit)?;
                was_cleared = true;
            } else if let Some(place) = optional_culprit(&properties, &refusal) {
                let property = properties.remove(place);
                log::debug!(
                    "systemd does not take the property {}: {}",
                    property.name,
                    refusal.text
                );
            } else {
                return Err(doing(explain(&refusal, &properties)));
            }
        }
    }

    /// Stops a unit, and returns when it is gone. One that is not there is gone already.
    pub(super) fn stop(&mut self, unit: &str) -> Result<()> {
        self.repeatedly(|this| this.stop_once(unit))
    }

    fn stop_once(&mut self, unit: &str) -> Result<()> {
        let doing = |error: Error| error.doing(format!("stop the unit {unit}"));
        match self.bus.call(MANAGER, "StopUnit", &(unit, MODE))? {
            // Whatever the result of the job: what counts is whether its cgroup is gone, and the caller looks
            // at that.
            Ok(body) => self.wait(&body).map(drop).map_err(doing),
            Err(refusal) if refusal.is("NoSuchUnit") => Ok(()),
            Err(refusal) => Err(doing(explain(&refusal, &[]))),
        }
    }

    /// The description of a unit. One that is not there is described by its name.
    pub(super) fn description(&mut self, unit: &str) -> Result<String> {
        self.repeatedly(|this| this.description_once(unit))
    }

    fn description_once(&mut self, unit: &str) -> Result<String> {
        let doing = |error: Error| error.doing(format!("ask for the description of the unit {unit}"));
        let path = object_path(unit);
        let target = Target {
            path: &path,
            ..PROPERTIES
        };
        let answer = self
            .bus
            .call(target, "Get", &("org.freedesktop.systemd1.Unit", "Description"))?;
        let body = answer.map_err(|refusal| doing(explain(&refusal, &[])))?;
        body.string_in_variant()
            .map_err(|reason| doing(self.bus.failed(reason)))
    }

    /// Changes properties of a unit until the next boot.
    pub(super) fn set_properties(&mut self, unit: &str, properties: &[Property]) -> Result<()> {
        self.repeatedly(|this| this.set_properties_once(unit, properties.to_vec()))
    }

    fn set_properties_once(&mut self, unit: &str, mut properties: Vec<Property>) -> Result<()> {
        const UNTIL_REBOOT: bool = true;
        while !properties.is_empty() {
            let arguments = (unit, UNTIL_REBOOT, named(&properties));
            let Err(refusal) = self.bus.call(MANAGER, "SetUnitProperties", &arguments)? else {
                return Ok(());
            };
            match optional_culprit(&properties, &refusal) {
                Some(place) => drop(properties.remove(place)),
                None => {
                    return Err(
                        explain(&refusal, &properties).doing(format!("set properties of the unit {unit}"))
                    );
                }
            }
        }
        Ok(())
    }

    /// Moves a process into the cgroup at `subgroup` below the unit's (`/`: the unit's own), for a caller who
    /// may not do it himself: a user's manager can ask that of the system's.
    pub(super) fn attach(&mut self, unit: &str, subgroup: &str, pid: u32) -> Result<()> {
        let answer = self
            .bus
            .call(MANAGER, "AttachProcessesToUnit", &(unit, subgroup, vec![pid]))?;
        answer.map(drop).map_err(|refusal| {
            explain(&refusal, &[]).doing(format!("move process {pid} into the unit {unit}"))
        })
    }

    fn reset_failed(&mut self, unit: &str) -> Result<()> {
        match self.bus.call(MANAGER, "ResetFailedUnit", &(unit,))? {
            Ok(_) => Ok(()),
            Err(refusal) if refusal.is("NoSuchUnit") => Ok(()),
            Err(refusal) => Err(explain(&refusal, &[]).doing(format!("reset the unit {unit}"))),
        }
    }

    fn wait(&mut self, body: &Body) -> Result<String> {
        let job = body.object_path().map_err(|reason| self.bus.failed(reason))?;
        self.bus.wait_for_job(&job, Instant::now() + PATIENCE)
    }
}

/// Whether the connection broke, so that nobody knows what has come of the last call.
pub(super) fn is_lost(error: &Error) -> bool {
    matches!(
        error.errno(),
        Some(Errno::CONNRESET | Errno::PIPE | Errno::NOTCONN)
    )
}

impl Refusal {
    fn is(&self, error: &str) -> bool {
        self.name.strip_prefix("org.freedesktop.systemd1.") == Some(error)
    }

    fn is_about_properties(&self) -> bool {
        // What a value of the wrong type is answered with.
        let is_errno = matches!(&*self.name, "System.Error.ENXIO" | "System.Error.EINVAL");
        is_errno
            || matches!(
                self.name.strip_prefix("org.freedesktop.DBus.Error."),
                Some("PropertyReadOnly" | "UnknownProperty" | "InvalidArgs" | "NotSupported")
            )
    }
}

fn started(result: &str) -> Result<()> {
    match result {
        "done" => Ok(()),
        result => Err(
            Error::new(ErrorKind::Os, format!("the job ended with the result {result:?}"))
                .with_hint("see the journal: journalctl -b _PID=1; of a user's manager, journalctl --user"),
        ),
    }
}

/// The path of a unit's object: what is no letter or digit is written as `_` and two hexadecimal digits
/// (sd_bus_path_encode(3)).
fn object_path(unit: &str) -> String {
    let mut path = String::from("/org/freedesktop/systemd1/unit/");
    for (place, byte) in unit.bytes().enumerate() {
        match byte {
            b'0'..=b'9' if place == 0 => path.push_str(&format!("_{byte:02x}")),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => path.push(byte.into()),
            _ => path.push_str(&format!("_{byte:02x}")),
        }
    }
    path
}

fn named(properties: &[Property]) -> NamedValues<'_> {
    properties
        .iter()
        .map(|property| (&*property.name, &property.value))
        .collect()
}

/// The property that a refusal is about, by the name in its text ("Cannot set property X, or unknown
/// property.").
fn culprit(properties: &[Property], refusal: &Refusal) -> Option<usize> {
    if !refusal.is_about_properties() {
        return None;
    }
    let mut words = refusal.text.split(|letter: char| !letter.is_ascii_alphanumeric());
    words.find_map(|word| properties.iter().position(|property| property.name == word))
}

fn optional_culprit(properties: &[Property], refusal: &Refusal) -> Option<usize> {
    culprit(properties, refusal).filter(|place| properties[*place].is_optional)
}

/// An error with what systemd says, and what can be done.
fn explain(refusal: &Refusal, properties: &[Property]) -> Error {
    let error = Error::new(ErrorKind::Os, refusal.to_string());
    if let Some(property) = culprit(properties, refusal).map(|place| &properties[place]) {
        let error = error.with_kind(ErrorKind::Invalid);
        return match &property.field {
            Some(field) => error
                .with_field(field.clone())
                .with_hint(format!("property {}", property.name)),
            None => error.with_hint(format!("property {}; this systemd may be too old", property.name)),
        };
    }
    // Of a value with the wrong type systemd does not say whose it is.
    let asked: Vec<_> = properties
        .iter()
        .filter(|property| !property.is_optional)
        .filter_map(|property| property.field.as_deref())
        .collect();
    if refusal.is_about_properties() && !asked.is_empty() {
        let error = error.with_kind(ErrorKind::Invalid);
        return error
            .with_field(asked.join(", "))
            .with_hint("a value may have the wrong type: see org.freedesktop.systemd1(5)");
    }
    if refusal.is("UnitExists") {
        return error
            .with_kind(ErrorKind::AlreadyExists)
            .with_field(name::FIELD)
            .with_hint("a unit of this name is in use: stop it, or choose another name");
    }
    match refusal.name.strip_prefix("org.freedesktop.DBus.Error.") {
        Some("AccessDenied" | "AuthFailed" | "InteractiveAuthorizationRequired") => {
            error.with_kind(ErrorKind::Denied).with_hint(
                "systemd, or polkit, does not allow it to this user: units of the system are for root, others have a \
                 service manager of their own",
            )
        }
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(name: &str, text: &str) -> Refusal {
        Refusal {
            name: format!("org.freedesktop.{name}"),
            text: text.to_owned(),
        }
    }

    #[test]
    fn the_property_that_is_refused_is_found_by_its_whole_name() {
        let properties = [
            Property::needed("Slice", "x.slice"),
            Property::optional("CPUQuotaPerSecUSec", 1u64),
            Property::optional("CPUQuotaPeriodUSec", 1u64),
            Property::asked(
                "Foo".into(),
                Variant::from(true),
                "annotations[\"org.systemd.property.Foo\"]".into(),
            ),
        ];
        let about = |name| {
            refusal(
                "DBus.Error.PropertyReadOnly",
                &format!("Cannot set property {name}, or unknown property."),
            )
        };
        assert_eq!(
            optional_culprit(&properties, &about("CPUQuotaPeriodUSec")),
            Some(2)
        );
        assert_eq!(optional_culprit(&properties, &about("CPUQuota")), None);
        assert_eq!(optional_culprit(&properties, &about("Slice")), None);
        assert_eq!(
            explain(&about("Foo"), &properties).to_string(),
            "annotations[\"org.systemd.property.Foo\"]: Cannot set property Foo, or unknown property. (property Foo)"
        );
        assert_eq!(
            explain(
                &refusal("DBus.Error.InvalidArgs", "Unexpected message contents"),
                &properties
            )
            .field(),
            Some("annotations[\"org.systemd.property.Foo\"]")
        );
        let other = refusal("systemd1.BadUnitSetting", "CPUQuotaPeriodUSec is bad");
        assert_eq!(culprit(&properties, &other), None);
    }

    #[test]
    fn the_object_of_a_unit_has_its_name_in_letters_and_digits() {
        for (unit, path) in [("a-b1.scope", "a_2db1_2escope"), ("1.slice", "_31_2eslice")] {
            assert_eq!(
                object_path(unit),
                format!("/org/freedesktop/systemd1/unit/{path}")
            );
        }
    }

    #[test]
    fn refusals_have_kinds_that_programs_can_tell_apart() {
        for (name, kind) in [
            ("systemd1.UnitExists", ErrorKind::AlreadyExists),
            ("DBus.Error.AccessDenied", ErrorKind::Denied),
            ("DBus.Error.InteractiveAuthorizationRequired", ErrorKind::Denied),
            ("DBus.Error.Failed", ErrorKind::Os),
        ] {
            assert_eq!(explain(&refusal(name, "text"), &[]).kind(), kind, "{name}");
        }
        assert!(started("done").is_ok());
        assert!(
            started("timeout")
                .unwrap_err()
                .to_string()
                .contains("\"timeout\"")
        );
    }
}
