// Package auth decides who is calling and what they may do. It checks access
// tokens by RFC 9068 against the keys of configured issuers, holds the one table
// of roles and permissions, and, for one-machine mode, is an issuer of its own.
//
// It is not an authorization server, knows no HTTP requests and no storage; package
// api asks it one question per request (see [Verifier.Authenticate]) and
// cmd/sealstream builds it. No error text of this package repeats any part of a
// token: an [Error] carries a bounded reason and a sentence made only of our words.
//
// What is refused by design: algorithms outside the issuer's list (never "none",
// never HS*), tokens that are not access tokens (ID tokens), tokens without kid,
// aud, jti, client_id, sub or tenant, tokens bound to a client's key (cnf), because
// the binding is not checked here, and tokens that join roles which must be held by
// different people. Keys named inside a token (jku, x5u, jwk, x5c) are never looked at.
package auth

import "slices"

// Global is the tenant claim of a principal that may read every tenant. Such a
// principal belongs to none and cannot write events.
const Global = "*"

// Principal is an authenticated caller. The zero Principal may do nothing.
type Principal struct {
	Issuer   string
	Subject  string // may name a person: evidence may hold it, logs and metrics may not
	ClientID string // the application that got the token
	TokenID  string // jti
	Tenant   string // one tenant, or [Global]
	Roles    []Role // known roles only, sorted
	granted  permissionSet
}

// NewPrincipal returns p with what its roles grant; tests and callers that
// authenticate by other means use it.
func NewPrincipal(p Principal) Principal {
	p.granted = grantsOf(p.Roles)
	return p
}

// Can says whether any of the principal's roles grants the permission.
func (p Principal) Can(want Permission) bool { return p.granted.has(want) }

// Global says whether the principal reads across tenants.
func (p Principal) Global() bool { return p.Tenant == Global }

// MayRead says whether the principal may see data of the tenant. Data without a
// tenant belongs to nobody, so only global principals see it.
func (p Principal) MayRead(tenant string) bool {
	return p.Global() || (p.Tenant != "" && p.Tenant == tenant)
}

// Reason is a bounded label of why a token was refused, used in metrics.
type Reason string

// The reasons.
const (
	ReasonMalformed   Reason = "malformed"
	ReasonType        Reason = "type"
	ReasonCritical    Reason = "critical_header"
	ReasonIssuer      Reason = "issuer"
	ReasonAlgorithm   Reason = "algorithm"
	ReasonKey         Reason = "key"
	ReasonSignature   Reason = "signature"
	ReasonExpired     Reason = "expired"
	ReasonNotYet      Reason = "not_yet_valid"
	ReasonFuture      Reason = "issued_in_the_future"
	ReasonAudience    Reason = "audience"
	ReasonClaim       Reason = "claim"
	ReasonBound       Reason = "sender_constrained"
	ReasonScope       Reason = "scope"
	ReasonTenant      Reason = "tenant"
	ReasonSeparation  Reason = "separation_of_duty"
	ReasonUnavailable Reason = "keys_unavailable"
)

// Error says why a token is refused. Detail is safe to show to the caller: ASCII,
// without quotes, without any part of the token.
type Error struct {
	Reason Reason
	Detail string
	Err    error // for the log only; nil where nothing is to be added
}

func (e *Error) Error() string { return string(e.Reason) + ": " + e.Detail }
func (e *Error) Unwrap() error { return e.Err }

func refuse(r Reason, detail string) *Error { return &Error{Reason: r, Detail: detail} }

// validTenant bounds what a tenant may be called, because the name becomes a
// record header, a column and part of record keys.
func validTenant(s string) bool {
	if s == Global {
		return true
	}
	if s == "" || len(s) > 64 {
		return false
	}
	for i := range len(s) {
		if !slices.Contains([]byte("._-"), s[i]) && !isAlnum(s[i]) {
			return false
		}
	}
	return true
}

func isAlnum(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}
