use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::Duration,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ProfileError, pattern, placeholder};

/// The library: where it lies, what it needs around it, how it starts and ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Module {
    /// Where it may lie: absolute, tried in order. One folder of a path may be `*`: the folder that Debian names after
    /// the processor.
    pub paths: Vec<String>,
    /// Environment variable that leads the library to its configuration. Where it is set, the library is meant.
    pub env_config: String,
    /// More of the same, for a library that may be any: all that lead a known one to its configuration.
    #[serde(skip)]
    pub(in crate::sign::pkcs11) env_configs: BTreeSet<String>,
    /// Environment variables that must be set.
    pub env_required: Vec<String>,
    /// Environment variables that are set for the library when they are not set already.
    pub env_default: BTreeMap<String, String>,
    /// Environment variables that may make the library write PINs to a log.
    pub env_danger: Vec<String>,
    /// Environment variables that the library's process gets to see besides those named above and the few that every
    /// program needs; `*` at the end of one stands for anything.
    pub env: Vec<String>,
    /// The folder that the library's process works in.
    pub working_directory: String,
    /// Most memory that the library's process may take up, in MiB (64 to 65536). Beyond, it is ended and started anew.
    pub memory_limit_mb: u64,
    /// Pass `CKF_OS_LOCKING_OK` to C_Initialize.
    pub os_locking: bool,
    /// Text for the reserved field of C_Initialize; `${NAME}` stands for an environment variable. Empty: none.
    pub reserved: String,
    /// Leave C_GetInterface alone and take the functions of PKCS#11 2.40.
    pub force_v2: bool,
    /// Whether C_Finalize is called at the end.
    pub finalize: Finalize,
    /// How long loading and C_Initialize may take, in seconds (1 to 600).
    pub init_timeout_s: u64,
    /// Whether the library gets a process of its own.
    pub isolation: Isolation,
    /// Groups that the user who runs Segl must be in.
    pub groups: Vec<String>,
    /// System services that must run.
    pub services: Vec<String>,
}

/// How a library ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Finalize {
    /// C_Finalize is called.
    #[default]
    Try,
    /// It is not: the library hangs or crashes there. Its process ends instead.
    Skip,
}

/// Where a library runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Isolation {
    /// In a process of its own, which can be ended when the library hangs.
    #[default]
    Process,
    /// In a thread of Segl's own process.
    Thread,
}

impl Default for Module {
    fn default() -> Self {
        Self {
            paths: Vec::new(),
            env_config: String::new(),
            env_configs: BTreeSet::new(),
            env_required: Vec::new(),
            env_default: BTreeMap::new(),
            env_danger: Vec::new(),
            env: Vec::new(),
            working_directory: "/".into(),
            memory_limit_mb: 512,
            os_locking: true,
            reserved: String::new(),
            force_v2: false,
            finalize: Finalize::Try,
            init_timeout_s: 60,
            isolation: Isolation::Process,
            groups: Vec::new(),
            services: Vec::new(),
        }
    }
}

impl Module {
    /// Those of its paths that exist on this machine, in order.
    #[must_use]
    pub fn installed(&self) -> Vec<PathBuf> {
        self.paths.iter().flat_map(|path| pattern::existing(path)).collect()
    }

    /// How long loading and C_Initialize may take.
    #[must_use]
    pub fn init_timeout(&self) -> Duration {
        Duration::from_secs(self.init_timeout_s)
    }

    /// The text for the reserved field of C_Initialize, with environment variables as `variable` gives them. `None`:
    /// the field stays empty.
    ///
    /// # Errors
    /// [`ProfileError::Variable`] when one of them is not set.
    pub fn reserved_text(
        &self,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<String>, ProfileError> {
        if self.reserved.is_empty() {
            return Ok(None);
        }
        placeholder::expand(&self.reserved, variable).map(Some)
    }
}
