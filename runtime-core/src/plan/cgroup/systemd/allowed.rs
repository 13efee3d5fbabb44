//! Runs in: RUNTIME. Pure: which properties of a unit an annotation may set. Engines copy annotations of
//! images, so that their author must not be able to act beyond the container: reboot the host, start or stop
//! other units, hand the cgroup to another user, attach programs (`docs/adr/0020`).

/// All others are refused: systemd gets new ones with each release, and what they do is not known here.
///
/// Not among them, and why: `FailureAction`, `SuccessAction`, `JobTimeoutAction` reboot the host; `Wants`,
/// `Requires`, `BindsTo`, `Upholds`, `OnFailure`, `OnSuccess`, `RequiresMountsFor` start units
/// (`reboot.target` is one); `Conflicts` and `PropagatesStopTo` stop them; `RefuseManualStop` keeps the
/// runtime from stopping this one; `User` and `Group` give the cgroup away; `Controller` names who may
/// abandon it; `BPFProgram`, `IPIngressFilterPath`, `NFTSet` reach other things.
const ALLOWED: [&str; 78] = [
    // The unit itself, and when it starts and stops.
    "After",
    "Before",
    "CollectMode",
    "DefaultDependencies",
    "Description",
    "Documentation",
    "IgnoreOnIsolate",
    "PartOf",
    "RuntimeMaxUSec",
    "RuntimeRandomizedExtraUSec",
    "TimeoutStopUSec",
    // How its processes are ended.
    "FinalKillSignal",
    "KillMode",
    "KillSignal",
    "OOMPolicy",
    "RestartKillSignal",
    "SendSIGHUP",
    "SendSIGKILL",
    "WatchdogSignal",
    // Resource control (systemd.resource-control(5)), as far as it only limits, accounts or protects this
    // cgroup.
    "AllowedCPUs",
    "AllowedMemoryNodes",
    "CPUAccounting",
    "CPUQuotaPerSecUSec",
    "CPUQuotaPeriodUSec",
    "CPUWeight",
    "CoredumpReceive",
    "DefaultMemoryLow",
    "DefaultMemoryMin",
    "DefaultStartupMemoryLow",
    "DeviceAllow",
    "DevicePolicy",
    "IOAccounting",
    "IODeviceLatencyTargetUSec",
    "IODeviceWeight",
    "IOReadBandwidthMax",
    "IOReadIOPSMax",
    "IOWeight",
    "IOWriteBandwidthMax",
    "IOWriteIOPSMax",
    "IPAccounting",
    "IPAddressAllow",
    "IPAddressDeny",
    "ManagedOOMMemoryPressure",
    "ManagedOOMMemoryPressureDurationUSec",
    "ManagedOOMMemoryPressureLimit",
    "ManagedOOMPreference",
    "ManagedOOMSwap",
    "MemoryAccounting",
    "MemoryHigh",
    "MemoryHighScale",
    "MemoryLow",
    "MemoryLowScale",
    "MemoryMax",
    "MemoryMaxScale",
    "MemoryMin",
    "MemoryMinScale",
    "MemoryPressureThresholdUSec",
    "MemoryPressureWatch",
    "MemorySwapMax",
    "MemorySwapMaxScale",
    "MemoryZSwapMax",
    "MemoryZSwapMaxScale",
    "MemoryZSwapWriteback",
    "RestrictNetworkInterfaces",
    "SocketBindAllow",
    "SocketBindDeny",
    "StartupAllowedCPUs",
    "StartupAllowedMemoryNodes",
    "StartupCPUWeight",
    "StartupIOWeight",
    "StartupMemoryHigh",
    "StartupMemoryLow",
    "StartupMemoryMax",
    "StartupMemorySwapMax",
    "StartupMemoryZSwapMax",
    "TasksAccounting",
    "TasksMax",
    "TasksMaxScale",
];

/// What systemd would take for the same limit as one that config.json sets, and put in its place at the next
/// reload.
const SAME: [(&str, &str); 11] = [
    ("MemoryMaxScale", "MemoryMax"),
    ("StartupMemoryMax", "MemoryMax"),
    ("MemorySwapMaxScale", "MemorySwapMax"),
    ("StartupMemorySwapMax", "MemorySwapMax"),
    ("MemoryHighScale", "MemoryHigh"),
    ("StartupMemoryHigh", "MemoryHigh"),
    ("TasksMaxScale", "TasksMax"),
    ("StartupCPUWeight", "CPUWeight"),
    ("StartupIOWeight", "IOWeight"),
    ("StartupAllowedCPUs", "AllowedCPUs"),
    ("StartupAllowedMemoryNodes", "AllowedMemoryNodes"),
];

/// Whether an annotation may set the property of this name, as it is on D-Bus.
pub(super) fn is_allowed(name: &str) -> bool {
    ALLOWED.contains(&name)
}

/// The limit that setting this property would be about.
pub(super) fn limit_of(name: &str) -> &str {
    let same = SAME.iter().find(|(other, _)| *other == name);
    same.map_or(name, |(_, limit)| limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_reaches_beyond_the_container_is_not_allowed() {
        for name in [
            "FailureAction",
            "SuccessAction",
            "JobTimeoutAction",
            "JobTimeoutUSec",
            "StartLimitAction",
            "Wants",
            "Requires",
            "BindsTo",
            "Upholds",
            "Conflicts",
            "OnFailure",
            "OnSuccess",
            "PropagatesStopTo",
            "RequiresMountsFor",
            "RefuseManualStop",
            "Controller",
            "User",
            "Group",
            "BPFProgram",
            "NFTSet",
            "IPIngressFilterPath",
            "Slice",
        ] {
            assert!(!is_allowed(name), "{name}");
        }
        for name in ["TimeoutStopUSec", "CollectMode", "MemoryHigh", "After"] {
            assert!(is_allowed(name), "{name}");
        }
        assert!(
            SAME.iter()
                .all(|(name, limit)| is_allowed(name) && is_allowed(limit))
        );
    }
}
