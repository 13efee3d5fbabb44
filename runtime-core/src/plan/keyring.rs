//! Runs in: RUNTIME. Decides the name of the session keyring, and who makes it. Pure.
//!
//! KEYCTL_JOIN_SESSION_KEYRING finds a keyring by its name, among those of the user namespace whose
//! permissions let the user search them: another container's could be found instead. So the name has a secret
//! in it.

use std::ffi::CString;

use super::{HostFacts, c_string};
use crate::Result;

const CAP_SETUID: u64 = 1 << 7;
const CAP_SYS_ADMIN: u64 = 1 << 21;

/// What of a keyring nobody may guess: drawn for each container, and `maker` for each process that joins it.
#[derive(Debug, Clone, Copy, Default)]
pub struct KeyringSecret {
    /// In its name.
    pub name: u128,
    /// A user whom nobody is: [`KeyringPlan::maker`].
    pub maker: u32,
}

impl KeyringSecret {
    /// From random bytes.
    pub fn new(random: [u8; 20]) -> Self {
        let [name @ .., a, b, c, d] = random;
        Self {
            name: u128::from_ne_bytes(name),
            // Neither -1 nor an id that hosts give to people or containers.
            maker: 0x8000_0000 | u32::from_ne_bytes([a, b, c, d]) >> 2,
        }
    }
}

/// The session keyring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyringPlan {
    /// Its name.
    pub name: CString,
    /// The real user who makes it, until nobody but its possessors can see it. Only root of the first user
    /// namespace can give it away again; in a user namespace of its own nobody else is there who could look.
    pub maker: Option<u32>,
}

impl KeyringPlan {
    /// Decides. `inside`: the process is in another user namespace than RUNTIME.
    ///
    /// # Errors
    /// `Invalid` for a name with a null byte.
    pub fn new(name: &str, secret: KeyringSecret, facts: &HostFacts, inside: bool) -> Result<Self> {
        let needed = CAP_SETUID | CAP_SYS_ADMIN;
        let is_root = !facts.in_user_namespace && facts.permitted_capabilities & needed == needed;
        Ok(Self {
            name: c_string(name, "id")?,
            maker: (is_root && !inside).then_some(secret.maker),
        })
    }
}

/// The name of a container's session keyring. Begins with what runc calls it.
pub(crate) fn keyring_name(id: &str, secret: KeyringSecret) -> String {
    format!("_ses.{id}.{:032x}", secret.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_has_all_of_the_secret() {
        let secret = KeyringSecret::new([0xab; 20]);
        assert_eq!(keyring_name("c1", secret), format!("_ses.c1.{}", "ab".repeat(16)));
        assert_eq!(
            keyring_name("c1", KeyringSecret::default()).len(),
            "_ses.c1.".len() + 32
        );
    }

    #[test]
    fn the_maker_is_nobody() {
        for random in [[0; 20], [0xff; 20]] {
            let maker = KeyringSecret::new(random).maker;
            assert!((0x8000_0000..0xc000_0000).contains(&maker), "{maker:x}");
        }
    }

    #[test]
    fn only_root_of_the_first_user_namespace_can_hide_the_making() {
        let maker = |facts: &HostFacts, inside| {
            let secret = KeyringSecret::new([1; 20]);
            KeyringPlan::new("n", secret, facts, inside)
                .unwrap()
                .maker
                .is_some()
        };
        let root = HostFacts::of_root();
        assert!(maker(&root, false) && !maker(&root, true));
        let nested = HostFacts {
            in_user_namespace: true,
            ..root.clone()
        };
        let weak = HostFacts {
            permitted_capabilities: CAP_SYS_ADMIN,
            ..root
        };
        assert!(!maker(&nested, false) && !maker(&weak, false));
    }
}
