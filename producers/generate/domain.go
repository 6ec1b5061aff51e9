package generate

import "github.com/sealstream/sealstream/schemas"

// domainAction is one step of an order.
type domainAction struct {
	action, payload string
	next            []int // steps that may follow; none: the order is done
}

// The steps of an order, by their place in domainActions.
const (
	stepPlaced = iota
	stepPaid
	stepShipped
	stepDelivered
	stepCancelled
	stepReturned
)

func domainActions() []domainAction {
	return []domainAction{
		stepPlaced:    {"order.placed", `{"total":` + markCents + `,"currency":"EUR","items":3}`, []int{stepPaid, stepPaid, stepPaid, stepCancelled}},
		stepPaid:      {"order.paid", `{"amount":` + markCents + `,"method":"card"}`, []int{stepShipped}},
		stepShipped:   {"order.shipped", `{"carrier":"dhl","parcel":"` + markSession + `"}`, []int{stepDelivered, stepDelivered, stepReturned}},
		stepDelivered: {"order.delivered", `{"signed":true}`, nil},
		stepCancelled: {"order.cancelled", `{"why":"customer","refund":` + markCents + `}`, nil},
		stepReturned:  {"order.returned", `{"refund":` + markCents + `}`, nil},
	}
}

// orders is the orders under way.
type orders struct {
	open  [512]order
	steps []domainAction
	last  int
}

type order struct {
	number  int
	step    int
	version int
	tenant  string
}

func newOrders() orders { return orders{steps: domainActions()} }

// step moves one order on, or places a new one.
func (o *orders) step(c *chance, tenant string) (what, number, version int) {
	at := &o.open[c.below(len(o.open))]
	next := o.steps[at.step].next
	if at.version == 0 || len(next) == 0 || at.tenant != tenant {
		o.last++
		*at = order{number: o.last, step: stepPlaced, version: 1, tenant: tenant}
	} else {
		at.step = next[c.below(len(next))]
		at.version++
	}
	return at.step, at.number, at.version
}

// domainTemplate prepares what this actor's part in that step looks like.
func (g *Generator) domainTemplate(who, what int) *template {
	a, act := &g.world.actors[who], &g.domain[what]
	e := &schemas.DomainEvent{
		Timestamp:    markTime(),
		Event:        schemas.DomainInfo{ID: markID, Action: &act.action, Outcome: new("success"), Dataset: new("shop.orders")},
		Aggregate:    schemas.DomainAggregate{Type: "order", ID: "order-" + markNumber, Version: markVersion},
		Organization: &schemas.DomainOrganization{ID: &a.tenant},
		User:         &schemas.DomainUser{ID: &a.id, Name: &a.name},
		Payload:      &act.payload,
		Correlation:  &schemas.DomainRef{ID: new(markTrace)},
	}
	return g.prepare(e, prepared{stream: schemas.TopicDomain, actor: a, action: act.action, schemaID: g.o.DomainSchemaID})
}
