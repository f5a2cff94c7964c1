//! Who may share cached answers.

use std::fmt;
use std::sync::Arc;

/// Who may share cached answers with this call.
///
/// By default the caller's own credential: two API keys never share an answer, and a rotated key starts cold.
/// Sharing is explicit. Whoever serves many end users under one credential and must keep them apart gives each a
/// [`Scope::tenant`].
///
/// # Example
/// ```
/// use thrifty::call::Scope;
///
/// assert_eq!(Scope::default(), Scope::credential());
/// assert_ne!(Scope::shared("docs-bot"), Scope::tenant("docs-bot"));
/// ```
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Scope(Who);

#[derive(Clone, Default, PartialEq, Eq, Hash)]
enum Who {
    #[default]
    Credential,
    Tenant(Arc<str>),
    Shared(Arc<str>),
}

impl Scope {
    /// Whoever presents the same credentials (the default), all of them: headers whose names say so, the user in the
    /// URI, a key in the query. Calls without one share a scope per origin.
    #[must_use]
    pub fn credential() -> Self {
        Self(Who::Credential)
    }

    /// One tenant of yours **within** the credential: end users under one API key are kept apart.
    #[must_use]
    pub fn tenant(name: &str) -> Self {
        Self(Who::Tenant(name.into()))
    }

    /// Everybody who names this scope, whatever their credential.
    ///
    /// The risk: a caller can learn from the speed of an answer that somebody else asked the same, and sees an
    /// answer that another credential paid for. Use it for prompts that hold nothing private.
    #[must_use]
    pub fn shared(name: &str) -> Self {
        Self(Who::Shared(name.into()))
    }

    /// True if callers with different credentials may share answers.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        matches!(self.0, Who::Shared(_))
    }

    /// The parts a cache key is bound to: a tag of the kind, the name, and whether the credential takes part.
    pub(crate) fn parts(&self) -> (u8, &str, bool) {
        match &self.0 {
            Who::Credential => (1, "", true),
            Who::Tenant(name) => (2, name, true),
            Who::Shared(name) => (3, name, false),
        }
    }
}

impl fmt::Debug for Scope {
    /// The kind only: a tenant's name may be personal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.0 {
            Who::Credential => "Scope::credential",
            Who::Tenant(_) => "Scope::tenant",
            Who::Shared(_) => "Scope::shared",
        })
    }
}
