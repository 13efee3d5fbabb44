//! Runs in: RUNTIME. What `linux.intelRdt` asks of the resctrl file system (config-linux.md, IntelRdt). Pure.

use oci_spec::runtime::Spec;

/// `closID` of the group that every process is in at first: the root of the file system.
const ROOT: &str = "/";

/// A group of resctrl, and what is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IntelRdtPlan {
    /// The group.
    pub group: ResctrlGroup,
    /// What is written to its file `schemata`, one write each, in order: the older two fields together, then `schemata`,
    /// which has the last word. The kernel refuses a resource that comes twice in one write.
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
pub fn plan(spec: &Spec, id: &str) -> Option<IntelRdtPlan> {
    let rdt = spec.linux().as_ref()?.intel_rdt().as_ref()?;
    let group = match rdt.clos_id().as_deref() {
        None | Some("") => ResctrlGroup::Own(id.to_owned()),
        Some(ROOT) => ResctrlGroup::Root,
        Some(name) => ResctrlGroup::Named(name.to_owned()),
    };
    let l3 = rdt.l3_cache_schema().as_deref().unwrap_or_default();
    // Memory bandwidth has a field of its own.
    let l3 = l3
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with("MB:"));
    let older = lines(l3.chain(rdt.mem_bw_schema().as_deref()));
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

fn lines<'a>(lines: impl Iterator<Item = &'a str>) -> String {
    lines.fold(String::new(), |text, line| text + line + "\n")
}
