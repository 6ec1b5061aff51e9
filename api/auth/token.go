package auth

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

const (
	maxTokenBytes = 8 << 10
	maxClaimBytes = 256
	leeway        = 30 * time.Second
)

// Algorithms lists every signature algorithm an issuer can be given.
func Algorithms() []string { return []string{"ES256", "ES384", "EdDSA", "PS256", "RS256"} }

// Issuer is one authority whose tokens are taken.
type Issuer struct {
	Name       string   // the iss claim, compared exactly
	Audience   string   // what aud must contain: the name this server has at the issuer
	Algorithms []string // some of [Algorithms]; at least one
	Keys       *KeySet
	// TenantClaim names the claim that holds the tenant, or "*" for all; default "tenant".
	TenantClaim string
	// RolesClaim names the claim that holds the list of roles; default "roles".
	RolesClaim string
	// Scope, when set, must be among the words of the scope claim.
	Scope string
}

// Verifier checks access tokens. It is safe for concurrent use.
type Verifier struct {
	issuers map[string]trusted
	parser  *jwt.Parser // reads without checking, to learn whose token it is
}

type trusted struct {
	Issuer
	parser *jwt.Parser
}

// NewVerifier checks the issuers and returns a Verifier for their tokens. now is
// the clock, time.Now in production.
func NewVerifier(now func() time.Time, issuers ...Issuer) (*Verifier, error) {
	if len(issuers) == 0 {
		return nil, errors.New("auth: no token issuer is configured, so nobody could ever be let in")
	}
	v := &Verifier{issuers: map[string]trusted{}, parser: jwt.NewParser(jwt.WithStrictDecoding())}
	for _, i := range issuers {
		if err := i.validate(); err != nil {
			return nil, err
		}
		if _, dup := v.issuers[i.Name]; dup {
			return nil, fmt.Errorf("auth: issuer %s is configured twice", i.Name)
		}
		if i.TenantClaim == "" {
			i.TenantClaim = "tenant"
		}
		if i.RolesClaim == "" {
			i.RolesClaim = "roles"
		}
		v.issuers[i.Name] = trusted{i, jwt.NewParser(
			jwt.WithStrictDecoding(), jwt.WithValidMethods(i.Algorithms),
			jwt.WithIssuer(i.Name), jwt.WithAudience(i.Audience),
			jwt.WithExpirationRequired(), jwt.WithIssuedAt(),
			jwt.WithLeeway(leeway), jwt.WithTimeFunc(now),
		)}
	}
	return v, nil
}

func (i Issuer) validate() error {
	switch {
	case i.Name == "":
		return errors.New("auth: an issuer has no name; give the exact iss value of its tokens")
	case i.Audience == "":
		return fmt.Errorf("auth: issuer %s has no audience; give the name this server has in its aud claims", i.Name)
	case i.Keys == nil:
		return fmt.Errorf("auth: issuer %s has no keys; give a JWKS URL or file", i.Name)
	case len(i.Algorithms) == 0:
		return fmt.Errorf("auth: issuer %s has no algorithms; give some of %s", i.Name, strings.Join(Algorithms(), ", "))
	}
	for _, a := range i.Algorithms {
		if !slices.Contains(Algorithms(), a) {
			return fmt.Errorf("auth: issuer %s: algorithm %q is not one of %s", i.Name, a, strings.Join(Algorithms(), ", "))
		}
	}
	return nil
}

// Authenticate checks an access token and returns who sent it. Any error is an *[Error].
func (v *Verifier) Authenticate(ctx context.Context, raw string) (Principal, error) {
	if len(raw) > maxTokenBytes {
		return Principal{}, refuse(ReasonMalformed, fmt.Sprintf("the token is longer than %d bytes", maxTokenBytes))
	}
	iss, err := v.whose(raw)
	if err != nil {
		return Principal{}, err
	}
	claims := jwt.MapClaims{}
	_, errParse := iss.parser.ParseWithClaims(raw, claims, func(t *jwt.Token) (any, error) {
		return iss.Keys.key(ctx, t)
	})
	if errParse != nil {
		return Principal{}, explain(errParse)
	}
	p, err := iss.principal(claims)
	if err != nil {
		return Principal{}, err
	}
	return p, nil
}

// whose reads the parts of a token that say which rules apply, before anything
// in it can be trusted.
func (v *Verifier) whose(raw string) (trusted, *Error) {
	claims := jwt.MapClaims{}
	t, _, err := v.parser.ParseUnverified(raw, claims)
	if err != nil {
		if t != nil && t.Header != nil && errors.Is(err, jwt.ErrTokenUnverifiable) {
			return trusted{}, refuse(ReasonAlgorithm, "the token's algorithm is unknown; sign with "+strings.Join(Algorithms(), ", "))
		}
		return trusted{}, &Error{ReasonMalformed, "this is not a signed JWT in compact form", nil}
	}
	typ, _ := t.Header["typ"].(string)
	if s := strings.ToLower(typ); s != "at+jwt" && s != "application/at+jwt" {
		return trusted{}, refuse(ReasonType, "header typ must be at+jwt (RFC 9068); an ID token or another kind of JWT is not an access token")
	}
	if _, has := t.Header["crit"]; has {
		return trusted{}, refuse(ReasonCritical, "header crit names extensions, and none is understood here")
	}
	name, _ := claims["iss"].(string)
	iss, ok := v.issuers[name]
	if !ok {
		return trusted{}, refuse(ReasonIssuer, "claim iss is missing or not an issuer that this server trusts")
	}
	if !slices.Contains(iss.Algorithms, t.Method.Alg()) {
		return trusted{}, refuse(ReasonAlgorithm, "the token's algorithm is not one that this issuer may use: "+strings.Join(iss.Algorithms, ", "))
	}
	if kid, _ := t.Header["kid"].(string); kid == "" || len(kid) > maxClaimBytes {
		return trusted{}, refuse(ReasonKey, "header kid is missing, so the signing key is not known")
	}
	return iss, nil
}

// explain turns the library's error into one of ours, the most telling first.
func explain(err error) *Error {
	if own, ok := errors.AsType[*Error](err); ok {
		return own
	}
	for _, e := range []struct {
		is     error
		reason Reason
		detail string
	}{
		{jwt.ErrTokenSignatureInvalid, ReasonSignature, "the signature does not fit the token and the issuer's key"},
		{jwt.ErrTokenExpired, ReasonExpired, "the token has expired (claim exp); get a new one"},
		{jwt.ErrTokenNotValidYet, ReasonNotYet, "the token is not valid yet (claim nbf); check the clocks"},
		{jwt.ErrTokenUsedBeforeIssued, ReasonFuture, "the token was issued in the future (claim iat); check the clocks"},
		{jwt.ErrTokenInvalidAudience, ReasonAudience, "claim aud does not name this server"},
		{jwt.ErrTokenInvalidIssuer, ReasonIssuer, "claim iss is not an issuer that this server trusts"},
		{jwt.ErrTokenRequiredClaimMissing, ReasonClaim, "a required claim is missing: exp and aud must be there"},
	} {
		if errors.Is(err, e.is) {
			return refuse(e.reason, e.detail)
		}
	}
	return refuse(ReasonMalformed, "a claim of the token has the wrong type")
}

// principal reads the claims of a token whose signature, times, issuer and
// audience are already known to be good.
func (i trusted) principal(claims jwt.MapClaims) (Principal, *Error) {
	p := Principal{Issuer: i.Name}
	for _, c := range []struct {
		name string
		into *string
	}{{"sub", &p.Subject}, {"client_id", &p.ClientID}, {"jti", &p.TokenID}} {
		s, _ := claims[c.name].(string)
		if s == "" || len(s) > maxClaimBytes {
			return p, refuse(ReasonClaim, fmt.Sprintf("claim %s must be text of 1 to %d bytes (RFC 9068)", c.name, maxClaimBytes))
		}
		*c.into = s
	}
	if iat, err := claims.GetIssuedAt(); err != nil || iat == nil {
		return p, refuse(ReasonClaim, "claim iat is missing (RFC 9068)")
	}
	if _, has := claims["cnf"]; has {
		return p, refuse(ReasonBound, "the token is bound to a key of its client (claim cnf), which this server does not check; ask for a bearer token")
	}
	if scope, _ := claims["scope"].(string); i.Scope != "" && !slices.Contains(strings.Fields(scope), i.Scope) {
		return p, refuse(ReasonScope, "claim scope does not hold the scope that this server asks for: "+i.Scope)
	}
	p.Tenant, _ = claims[i.TenantClaim].(string)
	if !validTenant(p.Tenant) {
		return p, refuse(ReasonTenant, "claim "+i.TenantClaim+" must name one tenant (1 to 64 of A-Z a-z 0-9 . _ -) or be * for all")
	}
	p.Roles = knownRoles(claims[i.RolesClaim])
	if pair, found := conflict(p.Roles); found {
		return p, refuse(ReasonSeparation, fmt.Sprintf("roles %s and %s must be held by different people; use a token for one of them", pair[0], pair[1]))
	}
	return NewPrincipal(p), nil
}

// knownRoles takes a list of names; anything else grants nothing.
func knownRoles(claim any) []Role {
	list, _ := claim.([]any)
	var roles []Role
	for _, x := range list {
		name, _ := x.(string)
		if r, err := ParseRole(name); err == nil && !slices.Contains(roles, r) {
			roles = append(roles, r)
		}
	}
	slices.Sort(roles)
	return roles
}
