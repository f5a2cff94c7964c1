//! The identity of a call: the full 32 bytes of a keyed hash over all that may change the answer.
//!
//! A key that forgets a field serves a wrong answer, and lists of fields to include have always forgotten one. So
//! everything is in the key (each body field, known or not, the endpoint, the headers that steer an API), except
//! what is known not to change the answer, named by exact path. Who asks is not data in the hash but its **key**:
//! two scopes cannot meet.
//!
//! # Example
//! ```
//! use thrifty::cache::{Keyer, Secret};
//! use thrifty::call::{Call, Scope};
//!
//! let keyer = Keyer::new(&Secret::random());
//! let url = "https://api.openai.com/v1/chat/completions";
//! let key = |body: &'static str| keyer.key(&Call::post(url, body), &Scope::credential(), &[]).unwrap();
//! assert!(key(r#"{"model":"m","messages":[],"top_p":1}"#) == key(r#"{"top_p":1.0, "messages":[], "model":"m"}"#));
//! assert!(key(r#"{"model":"m","messages":[],"top_p":1}"#) != key(r#"{"model":"m","messages":[]}"#));
//! ```
//! # A scope of your own, and a header that changes the answer
//! ```
//! use http::header::HeaderName;
//! use thrifty::cache::{Keyer, Secret};
//! use thrifty::call::{Call, Scope};
//!
//! let keyer = Keyer::new(&Secret::from_bytes([7; 32]));
//! let call = Call::post("https://api.openai.com/v1/chat/completions", r#"{"model":"m","messages":[]}"#);
//! let vary = [HeaderName::from_static("x-guard-rails")];
//! let (ann, bob) = (Scope::tenant("ann"), Scope::tenant("bob"));
//! assert!(keyer.key(&call, &ann, &vary).unwrap() != keyer.key(&call, &bob, &vary).unwrap());
//! ```

mod left_out;

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, OnceLock};

use http::header::{ACCEPT, AUTHORIZATION, HOST, HeaderName};

use super::canon::{self, Paths, Sink};
use super::secret::Secret;
use crate::Error;
use crate::call::{Call, Dialect, Scope, is_signature, is_signed};
use crate::dialect::RawIdentity;

/// Version of what is in a key. Part of every key.
const SCHEMA: u8 = 1;

/// The identity of a call within a scope. Never shortened, never shown: a visible key tells who asked what.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CacheKey([u8; 32]);

impl CacheKey {
    /// The bytes. Do not log them; see [`Keyer::fingerprint`].
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The key of one of several places of the same question. The first place is the question itself.
    pub(super) fn at_place(self, place: u8) -> Self {
        if place == 0 {
            return self;
        }
        let mut sink = Sink::keyed(&self.0, 0);
        sink.field(field::PLACE, &[place]);
        Self(sink.finish())
    }

    #[cfg(any(test, all(feature = "disk", feature = "test-util")))]
    pub(super) fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The half that locates an entry on disk, where the whole key is compared.
    #[cfg(feature = "disk")]
    pub(super) fn locator(&self) -> [u8; 16] {
        let mut half = [0; 16];
        half.copy_from_slice(&self.0[..16]);
        half
    }
}

impl Hash for CacheKey {
    /// A key is a keyed hash already, so eight of its bytes are enough for a table.
    fn hash<H: Hasher>(&self, state: &mut H) {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        state.write_u64(u64::from_le_bytes([a, b, c, d, e, f, g, h]));
    }
}

impl fmt::Debug for CacheKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CacheKey")
    }
}

/// Why a call goes past the cache: neither looked up nor stored. A word for logs and `Cache-Status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Bypass(pub &'static str);

impl fmt::Display for Bypass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// Makes keys. Cheap to clone. See the [module docs](crate::cache).
#[derive(Clone)]
pub struct Keyer {
    root: [u8; 32],
    credentials: [u8; 32],
    tags: [u8; 32],
    logs: [u8; 32],
    entries: [u8; 32],
    aliases: [u8; 32],
    bodies: [u8; 32],
    also: Arc<[HeaderName]>,
    opaque: Arc<[String]>,
    left_out: Arc<[String]>,
}

impl fmt::Debug for Keyer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keyer")
    }
}

/// Tags of the fields of a transcript. The scope has its own transcript, hence its own numbers.
mod field {
    pub(super) const ORIGIN: u8 = 16;
    pub(super) const DIALECT: u8 = 17;
    pub(super) const METHOD: u8 = 18;
    pub(super) const PATH: u8 = 19;
    pub(super) const QUERY: u8 = 20;
    pub(super) const HEADER: u8 = 21;
    pub(super) const VALUE: u8 = 22;
    pub(super) const POLICY: u8 = 25;
    pub(super) const RAW: u8 = 26;
    pub(super) const SCOPE: u8 = 27;
    pub(super) const CREDENTIAL: u8 = 28;
    pub(super) const NO_CREDENTIAL: u8 = 29;
    pub(super) const USERINFO: u8 = 30;
    pub(super) const MEDIA_TYPE: u8 = 31;
    pub(super) const RAW_BODY: u8 = 32;
    pub(super) const PLACE: u8 = 33;
    pub(super) const LEFT_OUT: u8 = 34;
}

/// Headers that steer an API and are always in the key.
const STEERING_NAMES: [&str; 6] = [
    "anthropic-version",
    "anthropic-beta",
    "openai-beta",
    "openai-organization",
    "openai-project",
    "x-goog-user-project",
];

/// The same as names of headers.
const STEERING: [HeaderName; 6] = {
    let [a, b, c, d, e, f] = STEERING_NAMES;
    [
        HeaderName::from_static(a),
        HeaderName::from_static(b),
        HeaderName::from_static(c),
        HeaderName::from_static(d),
        HeaderName::from_static(e),
        HeaderName::from_static(f),
    ]
};

/// Paths an operator may leave out; each costs a look at every member.
const MOST_LEFT_OUT: usize = 16;

/// A list whose order and repetition mean nothing.
const SET: HeaderName = HeaderName::from_static("anthropic-beta");

/// The token of a temporary AWS credential. Part of what is signed, and renewed within hours.
const SECURITY_TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");

/// True if a header of this name, in lower case, holds a credential or the like.
///
/// Gateways and providers name theirs as they please, so a list of whole names always lacks one. A name taken for a
/// credential without need costs hits; one that is missed would show one caller's answers to another.
fn names_credential(name: &str) -> bool {
    // What nearly every call has, told without a search.
    if matches!(
        name,
        "accept"
            | "accept-encoding"
            | "connection"
            | "content-length"
            | "content-type"
            | "host"
            | "user-agent"
    ) {
        return false;
    }
    let bytes = name.as_bytes();
    let marked = (0..bytes.len()).any(|at| {
        let rest = &bytes[at..];
        let marks: &[&str] = match rest[0] {
            b'a' => &["auth", "api-key", "apikey", "access-key"],
            b'c' => &["cookie", "credential"],
            b'j' => &["jwt"],
            b'p' => &["password"],
            b's' => &["secret", "session", "subscription-key"],
            b't' => &["token"],
            _ => &[],
        };
        marks.iter().any(|mark| rest.starts_with(mark.as_bytes()))
    });
    (marked && !name.contains("idempotency")) || name == "x-key"
}

impl Keyer {
    /// A maker of keys of this deployment.
    #[must_use]
    pub fn new(secret: &Secret) -> Self {
        let root = secret.derive("thrifty 2026-11 cache root v1");
        Self {
            root,
            credentials: blake3::derive_key("thrifty 2026-11 cache credential v1", &root),
            tags: blake3::derive_key("thrifty 2026-11 cache scope tag v1", &root),
            logs: blake3::derive_key("thrifty 2026-11 cache log fingerprint v1", &root),
            entries: blake3::derive_key("thrifty 2026-11 cache entry mac v1", &root),
            aliases: blake3::derive_key("thrifty 2026-11 cache alias v2", &root),
            bodies: blake3::derive_key("thrifty 2026-11 cache alias body v2", &root),
            also: Arc::default(),
            opaque: Arc::default(),
            left_out: Arc::default(),
        }
    }

    /// Takes these headers for credentials too, beside those whose names say so; see
    /// [`CacheBuilder::credential_header`](crate::cache::CacheBuilder::credential_header).
    #[must_use]
    pub fn with_credential_headers(mut self, names: impl IntoIterator<Item = HeaderName>) -> Self {
        self.also = self.also.iter().cloned().chain(names).collect();
        self
    }

    /// Gives keys to calls of no known format whose path is or ends with one of these; see
    /// [`CacheBuilder::opaque_route`](crate::cache::CacheBuilder::opaque_route).
    #[must_use]
    pub fn with_opaque_routes(mut self, paths: impl IntoIterator<Item = String>) -> Self {
        let paths = paths.into_iter().map(|path| format!("/{}", path.trim_matches('/')));
        self.opaque = self.opaque.iter().cloned().chain(paths).collect();
        self
    }

    /// Leaves these members of bodies out of keys; see
    /// [`CacheBuilder::leave_out`](crate::cache::CacheBuilder::leave_out).
    ///
    /// # Errors
    /// [`Kind::BadSetting`](crate::Kind::BadSetting) when a path names no member, or one that holds what is asked, or
    /// there are more than 16.
    pub fn with_left_out(mut self, paths: impl IntoIterator<Item = String>) -> Result<Self, Error> {
        let mut all = self.left_out.to_vec();
        for path in paths {
            all.push(left_out::names(&path)?.to_owned());
        }
        all.sort_unstable();
        all.dedup();
        if all.len() > MOST_LEFT_OUT {
            return Err(Error::bad_setting(
                format!("{} paths are to be left out of the cache key", all.len()),
                format!("name {MOST_LEFT_OUT} at most; what is left out should be rare"),
            ));
        }
        self.left_out = all.into();
        Ok(self)
    }

    /// Another list is another key: an answer found without looking at a member is nothing for who looks at it.
    fn left_out(&self, sink: &mut Sink) {
        self.left_out.iter().for_each(|path| sink.field(field::LEFT_OUT, path.as_bytes()));
    }

    /// True if `call` has no known format and its route was named.
    pub(super) fn names_opaque(&self, call: &Call) -> bool {
        call.dialect == Dialect::Opaque
            && self
                .opaque
                .iter()
                .any(|route| call.parts.uri.path().trim_end_matches('/').ends_with(route.as_str()))
    }

    /// The key of `call` as it goes out, for whoever is in `scope`. Values of the `vary` headers count too.
    ///
    /// # Errors
    /// [`Bypass`] when the call may not be cached, its body has no canonical form, or its credential is a signature
    /// that never repeats (AWS SigV4) and no other scope is given.
    pub fn key(&self, call: &Call, scope: &Scope, vary: &[HeaderName]) -> Result<CacheKey, Bypass> {
        if is_signed(&call.parts.headers) && scope.parts().1.is_empty() {
            return Err(Bypass("signed-credential"));
        }
        let mut sink = Sink::keyed(&self.scope_key(call, scope), call.doc.bytes().len());
        sink.raw(&[SCHEMA, canon::VERSION]);
        head(&mut sink, call, vary);
        if self.names_opaque(call) {
            let raw = RawIdentity::of(call).map_err(Bypass)?;
            header(&mut sink, call, &ACCEPT);
            sink.field(field::MEDIA_TYPE, raw.content_type.as_bytes());
            sink.field(field::RAW_BODY, &raw.body);
            return Ok(CacheKey(sink.finish()));
        }
        let body = call.doc.bytes();
        if body.is_empty() {
            return Err(Bypass("no-body"));
        }
        let is_plain = if self.left_out.is_empty() {
            canon::encode_request(body, call.dialect, excluded(call.dialect), &mut sink)?
        } else {
            self.left_out(&mut sink);
            let mut paths = call.format().excluded().to_vec();
            paths.extend(self.left_out.iter().map(String::as_str));
            canon::encode_request(body, call.dialect, &Paths::new(&paths), &mut sink)?
        };
        if !is_plain && let Some(reason) = call.format().bypass(call) {
            return Err(Bypass(reason));
        }
        Ok(CacheKey(sink.finish()))
    }

    /// The key of the exact bytes of `call` under `policy`, the hash of all settings that decide what is sent for
    /// it. The body is not looked into. Equal aliases mean equal calls; the reverse does not hold: a header that comes
    /// in another order is enough for another alias.
    ///
    /// An alias never leaves memory. So unlike a key's its parts stand as they came, in one hash, credentials too.
    #[must_use]
    pub fn alias(&self, call: &Call, scope: &Scope, vary: &[HeaderName], policy: &[u8; 32]) -> CacheKey {
        let Call { dialect, parts, doc } = call;
        let (kind, name, by_credential) = scope.parts();
        // The body has a hash of its own, since that of aligned bytes is the fastest there is.
        let body = blake3::keyed_hash(&self.bodies, doc.bytes());
        let mut sink = Sink::keyed(&self.aliases, 0);
        sink.raw(&[SCHEMA, canon::VERSION, kind]);
        sink.field(field::SCOPE, name.as_bytes());
        sink.field(field::POLICY, policy);
        self.left_out(&mut sink);
        sink.field(field::RAW, body.as_bytes());
        sink.field(field::DIALECT, dialect.name().as_bytes());
        sink.field(field::METHOD, parts.method.as_str().as_bytes());
        sink.field(field::ORIGIN, parts.uri.scheme_str().unwrap_or_default().as_bytes());
        let authority = parts.uri.authority().map_or("", http::uri::Authority::as_str);
        match authority.rsplit_once('@') {
            Some((_, host)) if !by_credential => sink.field(field::ORIGIN, host.as_bytes()),
            _ => sink.field(field::ORIGIN, authority.as_bytes()),
        }
        sink.field(field::PATH, parts.uri.path().as_bytes());
        if by_credential {
            sink.field(field::QUERY, parts.uri.query().unwrap_or_default().as_bytes());
        } else {
            for pair in query(call).filter(|pair| !pair.starts_with("key=")) {
                sink.field(field::QUERY, pair.as_bytes());
            }
        }
        let skip_signature = by_credential && !name.is_empty() && is_signed(&parts.headers);
        for (name, value) in &parts.headers {
            let text = name.as_str();
            let counts = match text {
                "accept" | "content-type" => *dialect == Dialect::Opaque,
                "host" => authority.is_empty(),
                _ => STEERING_NAMES.contains(&text),
            };
            let secret = by_credential
                && (names_credential(text) || self.also.contains(name))
                && !(skip_signature
                    && (*name == SECURITY_TOKEN
                        || (*name == AUTHORIZATION && is_signature(value.as_bytes()))));
            if counts || secret || vary.contains(name) {
                sink.field(field::HEADER, text.as_bytes());
                sink.field(field::VALUE, value.as_bytes());
            }
        }
        CacheKey(sink.finish())
    }

    /// Locates what belongs to the scope of `call`, for purging it. Tells nothing about who that is. That of a tenant
    /// is of its name alone, so that a purge covers all of its credentials.
    #[must_use]
    pub fn scope_tag(&self, call: &Call, scope: &Scope) -> [u8; 16] {
        if let Some(tag) = self.named_tag(scope) {
            return tag;
        }
        let mut tag = [0; 16];
        tag.copy_from_slice(&self.scope_hash(&self.tags, call, scope)[..16]);
        tag
    }

    /// The same for a scope that has a name, whoever calls.
    pub(super) fn named_tag(&self, scope: &Scope) -> Option<[u8; 16]> {
        let (kind, name, by_credential) = scope.parts();
        if by_credential && name.is_empty() {
            return None;
        }
        let mut sink = Sink::keyed(&self.tags, 0);
        sink.raw(&[SCHEMA, kind]);
        sink.field(field::SCOPE, name.as_bytes());
        let mut tag = [0; 16];
        tag.copy_from_slice(&sink.finish()[..16]);
        Some(tag)
    }

    /// Sixteen hexadecimal digits that stand for a key in logs and on the command line. Nobody without the secret
    /// can tell from them whether a call was made.
    #[must_use]
    pub fn fingerprint(&self, key: &CacheKey) -> String {
        let hash = blake3::keyed_hash(&self.logs, &key.0);
        hash.as_bytes()[..8].iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The key that authenticates stored entries.
    #[must_use]
    pub fn mac_key(&self) -> [u8; 32] {
        self.entries
    }

    fn scope_key(&self, call: &Call, scope: &Scope) -> [u8; 32] {
        self.scope_hash(&self.root, call, scope)
    }

    fn scope_hash(&self, key: &[u8; 32], call: &Call, scope: &Scope) -> [u8; 32] {
        let (kind, name, by_credential) = scope.parts();
        let mut sink = Sink::keyed(key, 0);
        sink.raw(&[SCHEMA, kind]);
        sink.field(field::SCOPE, name.as_bytes());
        if by_credential {
            // A signature differs from call to call, so a named tenant is told by name alone.
            match self.credential(call, !name.is_empty()) {
                Some(fingerprint) => sink.field(field::CREDENTIAL, &fingerprint),
                None => {
                    sink.head(field::NO_CREDENTIAL, 0);
                    origin(&mut sink, call);
                }
            }
        }
        sink.finish()
    }

    /// Keyed hash of all credentials of the call, if it has one: headers, the user in the URI, a key in the query.
    fn credential(&self, call: &Call, skip_signature: bool) -> Option<[u8; 32]> {
        let (mut sink, mut found) = (Sink::keyed(&self.credentials, 0), false);
        let headers = &call.parts.headers;
        let skip_signature = skip_signature && is_signed(headers);
        let mut names: Vec<&HeaderName> = headers
            .keys()
            .filter(|name| names_credential(name.as_str()) || self.also.contains(name))
            .filter(|name| !(skip_signature && **name == SECURITY_TOKEN))
            .collect();
        names.sort_unstable_by_key(|name| name.as_str());
        for name in names {
            for value in headers.get_all(name) {
                if skip_signature && name == AUTHORIZATION && is_signature(value.as_bytes()) {
                    continue;
                }
                found = true;
                sink.field(field::HEADER, name.as_str().as_bytes());
                sink.field(field::VALUE, value.as_bytes());
            }
        }
        for value in query(call).filter_map(|pair| pair.strip_prefix("key=")) {
            found = true;
            sink.field(field::QUERY, value.as_bytes());
        }
        if let Some((user, _)) = call.parts.uri.authority().and_then(|all| all.as_str().rsplit_once('@')) {
            found = true;
            sink.field(field::USERINFO, user.as_bytes());
        }
        found.then(|| sink.finish())
    }
}

fn query(call: &Call) -> impl Iterator<Item = &str> {
    call.parts.uri.query().into_iter().flat_map(|query| query.split('&'))
}

/// Where the call goes, what for, and under which conditions.
fn head(sink: &mut Sink, call: &Call, vary: &[HeaderName]) {
    sink.field(field::DIALECT, call.dialect.name().as_bytes());
    sink.field(field::METHOD, call.parts.method.as_str().as_bytes());
    origin(sink, call);
    let (path, query) = call.format().key_path(&call.parts.uri);
    sink.field(field::PATH, path.as_bytes());
    for pair in query.into_iter().filter(|pair| !pair.starts_with("key=")) {
        sink.field(field::QUERY, pair.as_bytes());
    }
    // Six looks into the map cost more than one run over its names, which nearly always has none of them.
    if call.parts.headers.keys().any(|name| STEERING_NAMES.contains(&name.as_str())) {
        for name in &STEERING {
            header(sink, call, name);
        }
    }
    let mut vary: Vec<&HeaderName> = vary.iter().filter(|name| !STEERING.contains(name)).collect();
    vary.sort_unstable_by_key(|name| name.as_str());
    vary.dedup();
    for name in vary {
        header(sink, call, name);
    }
}

/// A header and its values, in order; nothing if it is absent.
fn header(sink: &mut Sink, call: &Call, name: &HeaderName) {
    let values = call.parts.headers.get_all(name).iter().map(|value| value.as_bytes());
    let items: Vec<&[u8]> = if *name == SET {
        let items = values.flat_map(|value| value.split(|byte| *byte == b','));
        let mut items: Vec<_> = items.map(<[u8]>::trim_ascii).filter(|item| !item.is_empty()).collect();
        items.sort_unstable();
        items.dedup();
        items
    } else {
        values.collect()
    };
    if !items.is_empty() {
        sink.field(field::HEADER, name.as_str().as_bytes());
        sink.head(field::VALUE, items.len());
        items.iter().for_each(|item| sink.field(field::VALUE, item));
    }
}

/// Scheme, host and port. A call without them has those of its `host` header.
fn origin(sink: &mut Sink, call: &Call) {
    let uri = &call.parts.uri;
    let scheme = uri.scheme_str().unwrap_or_default();
    let port = uri.port_u16().or(match scheme {
        "https" => Some(443),
        "http" => Some(80),
        _ => None,
    });
    sink.field(field::ORIGIN, scheme.as_bytes());
    match uri.host() {
        Some(host) if host.bytes().any(|byte| byte.is_ascii_uppercase()) => {
            sink.field(field::ORIGIN, host.to_ascii_lowercase().as_bytes());
        }
        Some(host) => sink.field(field::ORIGIN, host.as_bytes()),
        None => {
            let host = call.parts.headers.get(HOST).map(|host| host.as_bytes().to_ascii_lowercase());
            sink.field(field::ORIGIN, &host.unwrap_or_default());
        }
    }
    sink.head(field::ORIGIN, port.map_or(0, usize::from));
}

/// What each format leaves out, taken apart once.
fn excluded(dialect: Dialect) -> &'static Paths<'static> {
    static PATHS: [OnceLock<Paths<'static>>; Dialect::ALL.len()] =
        [const { OnceLock::new() }; Dialect::ALL.len()];
    let at = Dialect::ALL.iter().position(|other| *other == dialect).unwrap_or(0);
    PATHS[at].get_or_init(|| Paths::new(Dialect::ALL[at].format().excluded()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_format_leaves_out_less_than_the_walk_can_hold() {
        for dialect in Dialect::ALL {
            assert!(dialect.format().excluded().len() + MOST_LEFT_OUT <= Paths::MOST, "{dialect}");
        }
    }

    #[test]
    fn exactly_the_named_members_are_left_out_and_another_list_is_another_key() {
        let keyer = |paths: &[&str]| {
            let paths = paths.iter().map(|path| (*path).to_owned());
            Keyer::new(&Secret::from_bytes([9; 32])).with_left_out(paths).unwrap()
        };
        let call = |body: &str| Call::post("https://api.openai.com/v1/chat/completions", body.to_owned());
        let key = |keyer: &Keyer, body: &str| keyer.key(&call(body), &Scope::credential(), &[]).unwrap();
        let body = |id: &str, top: &str, inner: &str, name: &str| {
            format!(
                r#"{{"model":"m","id":"{top}","messages":[{{"role":"user","id":"{id}","content":[{{"type":"text","text":"hi","id":"{inner}"}}]}}],"tools":[{{"type":"function","function":{{"name":"{name}","parameters":{{"properties":{{"id":{{}}}}}}}}}}]}}"#
            )
        };
        let (plain, ids) = (keyer(&[]), keyer(&["/messages/*/id"]));
        let base = body("1", "1", "1", "f");
        assert!(key(&plain, &base) != key(&plain, &body("2", "1", "1", "f")), "all is in the key by default");
        assert!(key(&ids, &base) == key(&ids, &body("2", "1", "1", "f")));
        let without = base.replace(r#""role":"user","id":"1""#, r#""role":"user""#);
        assert!(without != base && key(&ids, &base) == key(&ids, &without), "left out is as not there");
        for (other, what) in [
            (body("1", "2", "1", "f"), "one of the same name higher up"),
            (body("1", "1", "2", "f"), "one of the same name further down"),
            (body("1", "1", "1", "g"), "another member"),
            (base.replace(r#"{"id":{}}"#, "{}"), "a property of a schema"),
            (base.replace("user", "system"), "the member beside it"),
        ] {
            assert!(other != base && key(&ids, &base) != key(&ids, &other), "{what} counts");
        }
        assert!(key(&plain, &base) != key(&ids, &base), "another list is another key");
        assert!(
            key(&keyer(&["/x", "/messages/*/id"]), &base)
                == key(&keyer(&["/messages/*/id", "/x", "/x"]), &base)
        );
        let alias = |keyer: &Keyer| keyer.alias(&call(&base), &Scope::credential(), &[], &[0; 32]);
        assert!(alias(&plain) != alias(&ids));
        let twice = base.replace(r#""id":"1","content""#, r#""id":"1","id":"2","content""#);
        let refused = ids.key(&call(&twice), &Scope::credential(), &[]);
        assert_eq!(
            refused.err(),
            Some(Bypass("duplicate-name")),
            "what is left out has to be clear all the same"
        );
        let wrong = Keyer::new(&Secret::from_bytes([9; 32])).with_left_out(["/messages".to_owned()]);
        assert_eq!(wrong.map_err(|error| error.kind()).err(), Some(crate::Kind::BadSetting));
        let many = (0..17).map(|at| format!("/m{at}"));
        assert!(Keyer::new(&Secret::from_bytes([9; 32])).with_left_out(many).is_err());
    }

    #[test]
    fn nothing_secret_is_printed() {
        let keyer = Keyer::new(&Secret::from_bytes([9; 32]));
        let key = CacheKey::from_bytes([0xcd; 32]);
        assert_eq!(format!("{keyer:?} {key:?}"), "Keyer CacheKey");
        let fingerprint = keyer.fingerprint(&key);
        assert_eq!(fingerprint.len(), 16);
        assert!(!fingerprint.contains("cdcd"), "a fingerprint is no part of the key");
    }
}
