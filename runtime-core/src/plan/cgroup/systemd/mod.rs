//! Runs in: RUNTIME. Pure: the unit that systemd is to make around a container's process, and all that it is
//! told of it.

mod allowed;
pub(crate) mod annotations;
pub(crate) mod description;
pub(crate) mod gvariant;
pub(crate) mod name;
pub(crate) mod properties;

use std::collections::HashMap;
use std::path::Path;

use rustix::process::Pid;

use super::ResourcePlan;
use crate::Result;
use annotations::Subgroups;
use name::UnitName;
use properties::{Moment, Property};

/// What config.json says about the unit.
#[derive(Debug, Clone, PartialEq)]
pub struct UnitPlan {
    pub(crate) name: UnitName,
    pub(crate) subgroups: Subgroups,
    asked: Vec<Property>,
}

impl UnitPlan {
    /// Decides from `linux.cgroupsPath`, and from annotations: `org.systemd.property.NAME`, and crun's
    /// sub-cgroups.
    ///
    /// # Errors
    /// A path that is not `slice:prefix:name`. An illegal name or value, a property that an annotation may
    /// not set or that is about one of `limits`, or a sub-cgroup of a slice; the error names the annotation.
    pub fn new(
        cgroups_path: Option<&Path>,
        container_id: &str,
        annotations: Option<&HashMap<String, String>>,
        limits: &ResourcePlan,
    ) -> Result<Self> {
        let name = UnitName::new(cgroups_path, container_id)?;
        let Some(annotations) = annotations else {
            return Ok(Self {
                name,
                subgroups: Subgroups::default(),
                asked: Vec::new(),
            });
        };
        let subgroups = annotations::subgroups(annotations, name.is_slice())?;
        let asked = annotations::properties(annotations)?;
        if !asked.is_empty() {
            let derived = properties::of_limits(&limits.writes, Moment::Start);
            annotations::refuse_contradiction(&asked, &derived)?;
        }
        Ok(Self {
            name,
            subgroups,
            asked,
        })
    }

    /// The properties of the unit as runc and crun set them, before limits and annotations.
    fn basic_properties(&self, usual_slice: &str, pid: Option<Pid>, description: &str) -> Vec<Property> {
        let slice = self.name.slice.as_deref().unwrap_or(usual_slice).to_owned();
        let mut list = vec![Property::needed("Description", description.to_owned())];
        match pid {
            Some(pid) => {
                let pids = vec![pid.as_raw_nonzero().get().cast_unsigned()];
                list.push(Property::needed("Slice", slice));
                list.push(Property::needed("Delegate", true));
                list.push(Property::needed("PIDs", pids));
            }
            // Where a slice is follows from its name; systemd refuses to delegate one.
            None => list.push(Property::needed("Wants", vec![slice])),
        }
        // Engines read statistics, and a limit may be set later.
        for accounting in [
            "MemoryAccounting",
            "CPUAccounting",
            "IOAccounting",
            "TasksAccounting",
        ] {
            list.push(Property::optional(accounting, true));
        }
        // Without it systemd would stop containers at shutdown before the engine that is to stop them.
        list.push(Property::needed("DefaultDependencies", false));
        // A unit that has failed (its process was OOM-killed, say) would stay, and its name be taken.
        list.push(Property::optional("CollectMode", "inactive-or-failed"));
        list
    }

    /// All of them. The unit of a process, or of none if it is a slice; `description` is how it is known.
    pub(crate) fn properties(
        &self,
        usual_slice: &str,
        pid: Option<Pid>,
        limits: &ResourcePlan,
        description: &str,
    ) -> Vec<Property> {
        let mut list = self.basic_properties(usual_slice, pid, description);
        list.extend(properties::of_limits(&limits.writes, Moment::Start));
        // Last: what is asked for by name wins over the defaults above.
        list.extend(
            self.asked
                .iter()
                .map(|asked| description::described(asked, description)),
        );
        list
    }
}
