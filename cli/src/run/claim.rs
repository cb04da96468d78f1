//! What a job asks for beside a free place (`#exitring: weight=4 group=db`).

/// The claim of a job. Most jobs have none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    /// As how many jobs it counts.
    pub(crate) weight: u32,
    /// No two jobs of a group run at a time.
    pub(crate) group: Option<Box<str>>,
}
