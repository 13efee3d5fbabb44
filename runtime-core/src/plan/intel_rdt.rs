//! Runs in: RUNTIME. What `linux.intelRdt` asks of the resctrl file system (config-linux.md, IntelRdt). Pure.

use oci_spec::runtime::Spec;

use crate::{Error, ErrorKind, Result};

/// `closID` of the group that every process is in at first: the root of the file system.
const ROOT: &str = "/";

/// A group of resctrl, and what is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IntelRdtPlan {
    /// The group.
    pub group: ResctrlGroup,
    /// What is written to its file `schemata`, one write each, in order: the older two fields together, then
    /// `schemata`, which has the last word. The kernel refuses a resource that comes twice in one write.
    pub writes: Vec<String>,
    /// Whether the container gets a monitoring group of its own.
    pub monitoring: bool,
}

/// Which group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResctrlGroup {
    /// `closID` "/".
    Root,
    /// `closID`.
    Named(String),
    /// One of the container's own, named after it.
    Own(String),
}

/// The plan of a container with this id.
pub(crate) fn plan(spec: &Spec, id: &str) -> Option<IntelRdtPlan> {
    let rdt = spec.linux().as_ref()?.intel_rdt().as_ref()?;
    let group = match rdt.clos_id().as_deref() {
        None | Some("") => ResctrlGroup::Own(id.to_owned()),
        Some(ROOT) => ResctrlGroup::Root,
        Some(name) => ResctrlGroup::Named(name.to_owned()),
    };
    let older = older_fields(rdt.l3_cache_schema().as_deref(), rdt.mem_bw_schema().as_deref());
    let schemata = rdt.schemata().iter().flatten().map(String::as_str);
    let newer = lines(schemata.filter(|line| !line.is_empty()));
    Some(IntelRdtPlan {
        group,
        writes: [older, newer]
            .into_iter()
            .filter(|text| !text.is_empty())
            .collect(),
        monitoring: rdt.enable_monitoring().unwrap_or(false),
    })
}

/// What an update of these two fields writes, in one write.
///
/// # Errors
/// `Invalid`, as for the fields of config.json.
pub(crate) fn update(l3_cache: Option<&str>, memory_bandwidth: Option<&str>) -> Result<String> {
    match memory_bandwidth {
        Some(line) if !line.starts_with("MB:") || line.contains('\n') => {
            let text = format!("{line:?}: must be one line that starts with MB:");
            Err(Error::new(ErrorKind::Invalid, text).with_field("linux.intelRdt.memBwSchema"))
        }
        _ => Ok(older_fields(l3_cache, memory_bandwidth)),
    }
}

/// Memory bandwidth has a field of its own, so lines of it in the other give way.
fn older_fields(l3_cache: Option<&str>, memory_bandwidth: Option<&str>) -> String {
    let l3_cache = l3_cache.unwrap_or_default().lines();
    let l3_cache = l3_cache.filter(|line| !line.is_empty() && !line.starts_with("MB:"));
    lines(l3_cache.chain(memory_bandwidth))
}

fn lines<'a>(lines: impl Iterator<Item = &'a str>) -> String {
    lines.fold(String::new(), |text, line| text + line + "\n")
}
