package generate

import (
	"fmt"
	"strconv"
)

// world is who there is.
type world struct {
	actors        []actor
	byDay         table // actors by how busy they are
	byNight       table
	serviceAction int // what a service does where a person would log in
}

// actor is a person or a service of a tenant.
type actor struct {
	tenant  string
	id      string
	name    string
	email   string
	ip      string
	agent   string
	service bool
	admin   bool
	mfa     bool
	key     []byte
}

func names() (first, last, tenants, services, agents []string) {
	return []string{"Alice", "Bruno", "Chen", "Dana", "Emil", "Fatima", "Goran", "Hana", "Ivan", "Jonas", "Katya", "Liam", "Mia", "Noor", "Olga", "Pavel", "Quinn", "Rosa", "Sven", "Tara", "Uma", "Viktor", "Wanda", "Yusuf", "Zoe", "Björn", "Chloé", "José"},
		[]string{"Adler", "Berg", "Costa", "Dubois", "Eriksen", "Fischer", "Garcia", "Haas", "Ito", "Jensen", "Kowalski", "Larsen", "Moreau", "Novak", "Okafor", "Petrov", "Quist", "Rossi", "Sato", "Tanaka", "Ulrich", "Varga", "Weber", "Yilmaz", "Zhang"},
		[]string{"acme", "globex", "initech", "umbrella", "hooli", "stark", "wayne", "wonka", "cyberdyne", "tyrell", "soylent", "oscorp", "aperture", "vandelay", "dunder", "pied-piper", "massive", "monarch", "octan", "gringotts"},
		[]string{"billing", "warehouse", "gateway", "ci-runner", "backup", "scheduler", "vault", "reporting"},
		[]string{"Mozilla/5.0 (X11) Firefox/132.0", "Mozilla/5.0 (Win64) Chrome/131.0", "curl/8.11.0", "terraform/1.9.8", "acme-cli/4.2.1 go1.26"}
}

func newWorld(c *chance, o Options) world {
	first, last, tenants, services, agents := names()
	w := world{actors: make([]actor, o.Actors)}
	for i := range w.actors {
		a := &w.actors[i]
		a.tenant = tenants[i%o.Tenants]
		a.service = i%8 == 7
		a.ip = fmt.Sprintf("10.%d.%d.%d", i%o.Tenants, c.below(200)+1, c.below(254)+1)
		a.agent = agents[c.below(len(agents))]
		if a.service {
			s := services[c.below(len(services))]
			a.id = fmt.Sprintf("svc-%s-%05d", s, i)
			a.name, a.agent = "svc-"+s, agents[2+c.below(3)]
		} else {
			f, l := first[c.below(len(first))], last[c.below(len(last))]
			a.id = fmt.Sprintf("u-%06d", i)
			a.name = fmt.Sprintf("%s.%s%d", ascii(f), ascii(l), i)
			a.email = a.name + "@" + a.tenant + ".example"
			a.admin = c.below(12) == 0
			a.mfa = c.below(10) != 0
		}
		a.key = []byte(a.tenant + "/" + strconv.Itoa(i))
		if o.Key != nil {
			a.key = o.Key(a.tenant, a.id)
		}
	}
	busy := func(i int) float64 { return 1 / float64(i/2+1) }
	w.byDay = newTable(len(w.actors), func(i int) float64 {
		if w.actors[i].service {
			return busy(i) / 2
		}
		return busy(i)
	})
	w.byNight = newTable(len(w.actors), func(i int) float64 {
		if w.actors[i].service {
			return busy(i) * 8
		}
		return busy(i) / 4
	})
	for i, a := range auditActions() {
		if a.action == "api.call" && !a.failed {
			w.serviceAction = i
		}
	}
	return w
}

// pick draws an actor: one time in eight any, so that the quiet ones appear too.
func (w *world) pick(c *chance, night bool) int {
	if c.below(8) == 0 {
		return c.below(len(w.actors))
	}
	if night {
		return w.byNight.at(c)
	}
	return w.byDay.at(c)
}

// ascii lowers a name to what fits a mail address.
func ascii(s string) string {
	var b []byte
	for _, r := range s {
		switch {
		case r >= 'A' && r <= 'Z':
			b = append(b, byte(r)+'a'-'A')
		case r == 'ö':
			b = append(b, 'o')
		case r == 'é':
			b = append(b, 'e')
		case r < 0x80:
			b = append(b, byte(r))
		}
	}
	return string(b)
}
