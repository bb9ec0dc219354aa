//! Stable error codes. Each has a page in `docs/errors/`, named by its code.
//!
//! A code tells a caller what happened in a word, whose fault it was, and whether
//! trying again can help. What an owner needs to know goes to the log instead.

use serde::{Deserialize, Serialize};

/// Whose doing an error is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Fault {
    /// The caller sent something that can not be served.
    Client,
    /// The function (or its manifest) did something that is not allowed or failed.
    Guest,
    /// Something that Squall depends on did not answer.
    Backend,
    /// Squall itself, or the machine it runs on.
    Node,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $status:literal, $fault:ident, $retry:literal, $title:literal;)*) => {
        /// A stable error code, written `SQ0123`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u16)]
        pub enum ErrorCode { $($(#[$doc])* $name = $number,)* }

        impl ErrorCode {
            /// Every code, in order.
            pub const ALL: &'static [ErrorCode] = &[$(ErrorCode::$name,)*];

            /// The HTTP status that a caller receives.
            pub const fn status(self) -> u16 { match self { $(ErrorCode::$name => $status,)* } }
            /// A short title, safe to show to any caller.
            pub const fn title(self) -> &'static str { match self { $(ErrorCode::$name => $title,)* } }
            pub const fn fault(self) -> Fault { match self { $(ErrorCode::$name => Fault::$fault,)* } }
            /// Whether the same request may succeed later, unchanged.
            pub const fn retryable(self) -> bool { match self { $(ErrorCode::$name => $retry,)* } }
            pub fn from_number(number: u16) -> Option<Self> {
                match number { $($number => Some(ErrorCode::$name),)* _ => None }
            }
        }
    };
}

codes! {
    // 01xx: the door refuses a request.
    /// Framing that two parsers could read differently, or a malformed head.
    MalformedRequest = 100, 400, Client, false, "malformed request";
    /// The Host header is missing, duplicated, or contradicts the request target.
    BadHost = 101, 400, Client, false, "missing or invalid Host";
    /// The path holds raw bytes, an encoded slash or dots that leave the root.
    BadPath = 102, 400, Client, false, "invalid request path";
    /// No app or route answers here.
    NoRoute = 103, 404, Client, false, "no route matches";
    /// The route exists but not for this method.
    MethodNotAllowed = 104, 405, Client, false, "method not allowed";
    RequestBodyTooLarge = 105, 413, Client, false, "request body too large";
    /// The head did not arrive in time, or the body came slower than the minimum rate.
    RequestTooSlow = 106, 408, Client, true, "request arrived too slowly";
    HeadTooLarge = 107, 431, Client, false, "request header too large";
    /// No app has been deployed to this node.
    NothingDeployed = 108, 404, Client, true, "nothing is deployed here yet";
    /// The static asset or its range does not exist.
    RangeNotSatisfiable = 109, 416, Client, false, "range not satisfiable";
    UriTooLong = 110, 414, Client, false, "request target too long";
    ExpectationFailed = 111, 417, Client, false, "unsupported expectation";
    /// The certificate of the connection is not one for this host.
    MisdirectedRequest = 112, 421, Client, true, "wrong connection for this host";

    // 02xx: a function's run ended badly.
    /// The guest trapped (unreachable, out of bounds, stack overflow and so on).
    Trapped = 200, 500, Guest, false, "function failed";
    /// The wall-time limit passed before the response was finished.
    WallTimeExceeded = 201, 504, Guest, true, "function took too long";
    /// The CPU-time limit passed.
    CpuTimeExceeded = 202, 503, Guest, false, "function used too much CPU time";
    /// Memory grew to its limit and the guest could not go on.
    MemoryExceeded = 203, 503, Guest, false, "function used too much memory";
    /// The guest returned without setting a response.
    NoResponse = 204, 500, Guest, false, "function gave no response";
    ResponseBodyTooLarge = 205, 502, Guest, false, "response body too large";
    /// The concurrency limit is reached and its queue is full.
    QueueFull = 206, 503, Node, true, "function is at its concurrency limit";
    /// The request waited in the queue until its deadline.
    QueueTimeout = 207, 503, Node, true, "waited too long for capacity";
    /// Another request's trap took the shared instance down.
    InstanceLost = 208, 503, Guest, true, "the shared instance stopped";
    /// The function wrote more log bytes than a request may; the rest was dropped.
    LogLimitReached = 209, 200, Guest, false, "log output was cut";
    OutboundLimitReached = 210, 502, Guest, false, "too many outbound requests";
    /// The host is not in `allowed_hosts`, or resolves to an address that is not public.
    OutboundDenied = 211, 502, Guest, false, "outbound request not allowed";
    /// The guest produced a response that can not be sent (bad header, bad status).
    InvalidResponse = 212, 502, Guest, false, "function gave an invalid response";
    /// The guest called `wasi:cli/exit`, or returned an error instead of a response.
    GuestError = 213, 500, Guest, false, "function returned an error";
    /// The compiled code is missing or unreadable; it is being rebuilt.
    ArtifactUnavailable = 214, 503, Node, true, "function is being prepared";
    /// The pool of instances is exhausted on this node.
    NodeAtCapacity = 215, 503, Node, true, "node is at capacity";
    /// The request was cancelled: its client went away.
    Cancelled = 216, 499, Client, true, "client closed the request";
    /// The node is shutting down.
    Draining = 217, 503, Node, true, "node is shutting down";
    /// Another host did not answer, or broke off in the middle of a body.
    OutboundFailed = 218, 502, Backend, true, "outbound request failed";
    /// A JavaScript handler threw, or its promise was rejected.
    UncaughtException = 219, 500, Guest, false, "function threw an exception";
    /// Functions called each other by service bindings, too many deep.
    ServiceLoop = 220, 508, Guest, false, "functions call each other in a circle";
    Internal = 299, 500, Node, true, "internal error";

    // 03xx: deploying and administration.
    /// The manifest does not parse or contradicts itself.
    InvalidManifest = 300, 422, Client, false, "invalid manifest";
    /// The uploaded file is not a WebAssembly component.
    NotAComponent = 301, 422, Client, false, "not a WebAssembly component";
    /// The component imports an interface that this node does not offer.
    UnknownImport = 302, 422, Client, false, "component imports something unknown";
    /// The component exports no HTTP handler that this node can call.
    NoHandler = 303, 422, Client, false, "component exports no HTTP handler";
    /// The upload ended early or its framing is broken.
    TruncatedUpload = 304, 400, Client, true, "upload is incomplete";
    UploadTooLarge = 305, 413, Client, false, "upload too large";
    /// Compilation exceeded its time or memory limit, or crashed.
    BuildFailed = 306, 422, Client, false, "component could not be compiled";
    UnknownApp = 307, 404, Client, false, "no such app";
    UnknownRevision = 308, 404, Client, false, "no such revision";
    UnknownFunction = 309, 404, Client, false, "no such function";
    Unauthorized = 310, 401, Client, false, "missing or invalid token";
    Forbidden = 311, 403, Client, false, "token lacks the scope";
    InvalidRequest = 312, 400, Client, false, "invalid request";
    /// A file named by the manifest is not in the upload.
    MissingFile = 313, 422, Client, false, "file is missing from the upload";
    InvalidTraffic = 314, 422, Client, false, "invalid traffic split";
    UnknownSecret = 315, 404, Client, false, "no such secret";
    UnknownToken = 316, 404, Client, false, "no such token";
    /// Two writers raced, or the name is taken.
    Conflict = 317, 409, Client, true, "conflict";
    StorageFull = 318, 507, Node, true, "no space left on the node's disk";
    StorageFailed = 319, 500, Node, true, "the node's storage failed";
    /// The first or only revision can not be rolled back.
    NothingToRollBack = 320, 409, Client, false, "there is no earlier revision";
    /// JavaScript or TypeScript that does not parse, or imports what is not there.
    InvalidSource = 321, 422, Client, false, "source can not be built";
    /// The code outside of handlers, which runs once at deploy, failed.
    TopLevelFailed = 322, 422, Client, false, "top-level code failed";
    UnknownClient = 323, 404, Client, false, "no such API client";
    UnknownClientKey = 324, 404, Client, false, "no such key";
    /// A client is to be on a plan that the live manifest does not have.
    UnknownPlan = 325, 422, Client, false, "no such plan";
    /// A change of the gateway names other functions than those that are live.
    FunctionsDiffer = 326, 422, Client, false, "other functions are live";
    /// A change of the gateway starts from one revision, and several share the traffic.
    TrafficIsSplit = 327, 409, Client, false, "traffic is split";
    /// Two apps can not answer on the same domain.
    HostTaken = 328, 409, Client, false, "domain leads to another app";

    // 05xx: the gateway's policies refuse a request.
    /// The route asks who calls, and the request does not say.
    MissingCredentials = 500, 401, Client, false, "credentials are missing";
    /// The key, token or password is wrong, or its time has passed.
    InvalidCredentials = 501, 401, Client, false, "credentials are not valid";
    InsufficientScope = 502, 403, Client, false, "a scope is missing";
    /// A rate limit of the route, the app or the caller's plan is used up.
    RateLimited = 503, 429, Client, true, "too many requests";
    /// The caller's plan has no requests left in this day or month.
    QuotaExceeded = 504, 429, Client, true, "request quota is used up";
    /// As many requests are on their way as the route or the caller's plan allows.
    TooManyConcurrent = 505, 429, Client, true, "too many requests at once";
    /// Nobody can tell now whether the credential is right.
    IdentityUnavailable = 506, 503, Backend, true, "identity can not be verified now";
    /// The app's address rules do not let this caller in.
    AddressDenied = 507, 403, Client, false, "address not allowed";
    /// The route takes requests over TLS only.
    HttpsRequired = 508, 403, Client, false, "HTTPS required";
    /// The revision that the request asks for by header does not exist or serves no more.
    RevisionNotServed = 509, 404, Client, false, "no such revision here";
    /// Only what is stored was asked for, and nothing is.
    NotCached = 510, 504, Client, true, "not in the cache";

    // 06xx: an upstream did not answer.
    /// No target is left: none passes its health check, or none may be reached.
    UpstreamUnavailable = 600, 503, Backend, true, "upstream is not available";
    UpstreamConnectFailed = 601, 502, Backend, true, "no connection to the upstream";
    /// No connection, or no head of a response, in time.
    UpstreamTimeout = 602, 504, Backend, true, "upstream took too long";
    /// Its answer is not HTTP, or can be read in two ways.
    UpstreamProtocol = 603, 502, Backend, false, "upstream gave an invalid answer";
    /// The connection ended before the response did.
    UpstreamBroke = 604, 502, Backend, true, "upstream broke off";
    /// Most requests failed; none are sent for a while.
    CircuitOpen = 605, 503, Backend, true, "upstream is given rest";
    /// None of its names has ever resolved.
    UpstreamUnresolved = 606, 503, Backend, true, "upstream's name does not resolve";
    /// So many requests are there already that no more are sent.
    UpstreamOverloaded = 607, 503, Backend, true, "upstream has too many requests";

    // 04xx: starting a node.
    DataDirLocked = 400, 500, Node, false, "data directory is in use";
    DataDirTooNew = 401, 500, Node, false, "data directory was written by a newer version";
    PortInUse = 402, 500, Node, false, "port is in use";
    InvalidConfig = 403, 500, Node, false, "invalid server configuration";
    DataDirUnsafe = 404, 500, Node, false, "data directory is not private";
}

impl std::fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SQ{:04}", *self as u16)
    }
}

impl Serialize for ErrorCode {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ErrorCode {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.strip_prefix("SQ")
            .and_then(|number| number.parse().ok())
            .and_then(ErrorCode::from_number)
            .ok_or_else(|| serde::de::Error::custom(format!("unknown error code {text:?}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_written_and_read_the_same() {
        for code in ErrorCode::ALL {
            let text = serde_json::to_string(code).unwrap();
            assert_eq!(serde_json::from_str::<ErrorCode>(&text).unwrap(), *code);
        }
        assert_eq!(ErrorCode::Trapped.to_string(), "SQ0200");
    }
}
