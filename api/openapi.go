package api

import (
	_ "embed"
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/sealstream/sealstream/api/auth"
)

// openAPI is the contract of this package, OpenAPI 3.1.
//
//go:embed openapi.yaml
var openAPI []byte

func (s *server) getOpenAPI(c *gin.Context, _ auth.Principal) *problem {
	c.Writer.Header().Set("Content-Type", "application/yaml")
	write(c, http.StatusOK, openAPI)
	return nil
}
