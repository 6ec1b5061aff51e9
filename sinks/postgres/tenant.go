package postgres

import (
	"github.com/sealstream/sealstream/ledger"
	"github.com/sealstream/sealstream/sinks"
)

// TenantHeader is the record header in which producers of ours name the tenant.
const TenantHeader = "ce_tenant"

// MaxTenant is the longest tenant in bytes.
const MaxTenant = 256

// Tenants says whose the records of a sealed topic are: the name it maps to; a topic
// that is not in it takes the record's header ce_tenant. Never the payload: that is a
// claim. A header that is missing, there twice, empty, longer than MaxTenant or not
// text gives the empty tenant, which no tenant's query sees.
type Tenants map[string]string

func (t Tenants) of(sealedTopic string, hs []ledger.Header) string {
	if fixed, ok := t[sealedTopic]; ok {
		return fixed
	}
	name, found := "", false
	for i := range hs {
		if hs[i].Name != TenantHeader {
			continue
		}
		if found {
			return ""
		}
		name, found = string(hs[i].Value), true
	}
	if len(name) > MaxTenant || sinks.Text(name, MaxTenant) != name {
		return ""
	}
	return name
}
