-- Verification jobs. They hold places and verdicts, no event content, and they are no
-- evidence: who asked for a job is in the control ledger, and any verdict can be had
-- again by verifying again. Only sealstream_jobs writes them, and it sees nothing else,
-- so that neither who reads events can forge a verdict, nor who keeps jobs read events.

CREATE TABLE public.verify_jobs (
    id          uuid        PRIMARY KEY,
    state       text        NOT NULL DEFAULT 'queued' CHECK (state IN ('queued', 'running', 'done', 'failed', 'cancelled')),
    cancel      boolean     NOT NULL DEFAULT false,
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    started_at  timestamptz,
    finished_at timestamptz,
    lease_until timestamptz,
    fence       bigint      NOT NULL DEFAULT 0,
    idle        integer     NOT NULL DEFAULT 0,
    request     jsonb       NOT NULL,
    progress    jsonb       NOT NULL DEFAULT '{}',
    plan        jsonb,
    report      jsonb,
    error       text
);
COMMENT ON COLUMN public.verify_jobs.lease_until IS 'When the job may be taken up by another process, by the clock of this server.';
COMMENT ON COLUMN public.verify_jobs.fence IS 'Counts claims; a write under an older claim is refused.';
COMMENT ON COLUMN public.verify_jobs.idle IS 'Claims since a partition was last finished.';

-- One at a time, whichever processes ask.
CREATE UNIQUE INDEX verify_jobs_active ON public.verify_jobs ((true)) WHERE state IN ('queued', 'running');
CREATE INDEX verify_jobs_created ON public.verify_jobs (created_at);

CREATE TABLE public.verify_parts (
    job       uuid    NOT NULL REFERENCES public.verify_jobs ON DELETE CASCADE,
    topic     text    NOT NULL,
    partition integer NOT NULL,
    part      jsonb   NOT NULL,
    PRIMARY KEY (job, topic, partition)
);

CREATE TABLE public.verify_findings (
    job     uuid          NOT NULL REFERENCES public.verify_jobs ON DELETE CASCADE,
    n       bigint        NOT NULL GENERATED ALWAYS AS IDENTITY,
    verdict text          NOT NULL,
    ledger  uuid          NOT NULL,
    seq     numeric(20,0) NOT NULL,
    place   text          NOT NULL,
    detail  text          NOT NULL,
    PRIMARY KEY (job, n)
);

REVOKE ALL ON TABLE public.verify_jobs, public.verify_parts, public.verify_findings FROM PUBLIC;
GRANT SELECT, INSERT, UPDATE, DELETE ON TABLE public.verify_jobs TO sealstream_jobs;
GRANT SELECT, INSERT ON TABLE public.verify_parts, public.verify_findings TO sealstream_jobs;
