//! Any bytes as an answer of rtnetlink, which in a namespace that is shared others may have a hand in:
//! nothing is read beyond a message, and an address is given again as it was.
#![no_main]

use libfuzzer_sys::fuzz_target;
use runtime_core::unstable::{netlink_address, netlink_attributes, netlink_read};

/// Lengths of `struct nlmsghdr` and `struct ifaddrmsg`.
const HEADER: usize = 16;
const ADDRESS: usize = 8;
const IFA_FLAGS: u16 = 8;
/// `IFA_ADDRESS`, `IFA_LOCAL`, `IFA_BROADCAST`.
const KEPT: [u16; 3] = [1, 2, 4];

fuzz_target!(|answer: &[u8]| {
    let (end, messages) = netlink_read(answer);
    let total: usize = messages.iter().map(|(_, body)| HEADER + body.len()).sum();
    assert!(total <= answer.len().next_multiple_of(4));
    assert!(
        messages.iter().all(|(kind, _)| !matches!(kind, 2 | 3)),
        "errors and ends are no messages"
    );
    assert!(!answer.is_empty() || end == Ok(false));
    for (_, body) in messages.iter().chain([&(0, answer.to_vec())]) {
        address(body);
    }
});

fn address(body: &[u8]) {
    let rest = body.get(ADDRESS..).unwrap_or_default();
    let found = netlink_attributes(rest);
    let total: usize = found.iter().map(|(_, value)| 4 + value.len()).sum();
    assert!(total <= rest.len());
    assert!(found.iter().all(|(kind, _)| kind & 0xc000 == 0));
    let Some(request) = netlink_address(body, 7) else {
        return;
    };
    assert_eq!(request[..4], (request.len() as u32).to_ne_bytes());
    assert_eq!(request.len() % 4, 0);
    // Family and prefix as they were, on the new device.
    assert_eq!(request[HEADER..HEADER + 2], body[..2]);
    assert_eq!(request[HEADER + 4..HEADER + 8], 7_u32.to_ne_bytes());
    let given = netlink_attributes(&request[HEADER + ADDRESS..]);
    let (flags, addresses) = given.split_first().expect("the flags at least");
    assert_eq!((flags.0, flags.1.len()), (IFA_FLAGS, 4));
    let kept = found.iter().filter(|(kind, _)| KEPT.contains(kind));
    assert!(addresses.iter().eq(kept));
}
