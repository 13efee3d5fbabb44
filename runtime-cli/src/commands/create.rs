//! Runs in: RUNTIME. `create`.

use runtime_core::Result;

use super::common_flags::CreateFlags;
use super::{Command, Definition, FailurePrefix, Invocation};
use crate::flags::flags;
use crate::interrupt;

flags! {
    #[expect(dead_code, reason = "--no-subreaper has no effect: a command that ends at once adopts no orphans")]
    pub(crate) struct Create {
        ..create: CreateFlags,
        /// accepted for crun's callers, without effect
        no_subreaper: bool { hide(true) },
    }
}

impl Command for Create {
    const DEFINITION: Definition = Definition {
        seals: true,
        creates: true,
        failure: FailurePrefix::ProgramAndCommand,
        ..Definition::new::<Self>("create", "create a container")
    };

    fn preserved_fds(&self) -> u32 {
        self.create.preserve_fds
    }

    /// Leaves the start to `start`.
    fn run(self, call: &Invocation) -> Result<u8> {
        let options = self.create.options()?.cancel(interrupt::block()?);
        call.runtime()?.create(&call.id()?, options)?;
        Ok(0)
    }
}
