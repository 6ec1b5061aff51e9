# One static binary, nothing else. It runs without root and needs no shell.
FROM golang:1.26-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -buildvcs=false -o /sealstream ./cmd/sealstream

FROM gcr.io/distroless/static-debian12:nonroot
COPY --from=build /sealstream /sealstream
ENTRYPOINT ["/sealstream"]
