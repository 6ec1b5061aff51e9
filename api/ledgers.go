package api

import (
	"context"
	"fmt"
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/sealstream/sealstream/api/auth"
	"github.com/sealstream/sealstream/ledger"
)

type ledgerJSON struct {
	ID        ledger.ID   `json:"id"`
	Source    string      `json:"source"`
	Partition int32       `json:"partition"`
	Size      uint64      `json:"size"`
	Head      ledger.Hash `json:"head"`
	Closed    bool        `json:"closed"`
	Genesis   string      `json:"genesis"`
}

// listLedgers answers all ledgers at once: there is one per sealed partition and
// one more for each that was closed. A ledger belongs to a topic, not to a tenant,
// and there is no event content in the answer, so it is not a recorded read.
func (s *server) listLedgers(c *gin.Context, _ auth.Principal) *problem {
	ctx, cancel := context.WithTimeout(c.Request.Context(), s.Limits.QueryTimeout)
	defer cancel()
	all, err := s.Store.Ledgers(ctx)
	if err != nil {
		return storeProblem(ctx, fmt.Errorf("list ledgers: %w", err))
	}
	page := struct {
		Items []ledgerJSON `json:"items"`
	}{make([]ledgerJSON, len(all))}
	for n, l := range all {
		page.Items[n] = ledgerJSON(l)
	}
	body, err := render(page)
	if err != nil {
		return internal(fmt.Errorf("render ledgers: %w", err))
	}
	answerJSON(c, http.StatusOK, body)
	return nil
}
