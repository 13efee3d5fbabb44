//! Runs in: RUNTIME. `delete`.

use runtime_core::Result;

use super::common_flags::RegexFlag;
use super::{Command, Definition, Invocation};
use crate::flags::flags;

flags! {
    pub(crate) struct Delete {
        /// kill it first if it still runs
        force: bool { short('f') },
        ..regex: RegexFlag,
    }
}

impl Command for Delete {
    const DEFINITION: Definition =
        Definition::new::<Self>("delete", "delete any resources held by a container");

    fn run(self, call: &Invocation) -> Result<u8> {
        self.regex
            .for_each(call, |runtime, id| runtime.delete(id, self.force))?;
        Ok(0)
    }
}
