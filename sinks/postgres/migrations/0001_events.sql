-- Evidence. Every name is qualified and every function fixes its search_path, so
-- that nothing depends on who migrates or calls. The projected columns stand where
-- the marker is; they come from schemas.Columns(1), which is frozen.

CREATE TABLE public.events (
    ledger             uuid        NOT NULL,
    seq                bigint      NOT NULL CHECK (seq >= 0),
    event_time         timestamptz NOT NULL,
    record_time        timestamptz,
    sealed_offset      bigint      NOT NULL,
    month              date        NOT NULL,
    sealed_partition   integer     NOT NULL,
    kind               smallint    NOT NULL,
    projection_version smallint    NOT NULL,
    sealed_topic       text        NOT NULL,
    tenant             text        NOT NULL,
    leaf_hash          bytea       NOT NULL,
    statement          bytea       NOT NULL,
    salt               bytea,
    frame              bytea       NOT NULL,
    decode_error       text,
    -- projection 1
    PRIMARY KEY (ledger, seq, month)
) PARTITION BY RANGE (month);

COMMENT ON TABLE public.events IS 'One row per sealed record. Append-only: rows are inserted by sealstream_writer and replaced by sealstream_replace() only.';
COMMENT ON COLUMN public.events.event_time IS 'The payload''s @timestamp if usable, else the record timestamp, else 1970-01-01.';
COMMENT ON COLUMN public.events.record_time IS 'The record timestamp; null when the record has none, or one that no timestamptz of the years 1 to 9999 holds. The statement has it in full.';
COMMENT ON COLUMN public.events.month IS 'First day of the month of the record timestamp (UTC); 1970-01-01 outside [2020, 2100).';
COMMENT ON COLUMN public.events.frame IS 'Key, headers and value of the source record, byte for byte (docs/ledger-format.md section 2).';
COMMENT ON COLUMN public.events.tenant IS 'From configuration or the header ce_tenant, never from the payload; empty when there is none.';

-- Statement, hash and salt do not compress; trying costs CPU on each large row.
ALTER TABLE public.events
    ALTER COLUMN leaf_hash SET STORAGE EXTERNAL,
    ALTER COLUMN statement SET STORAGE EXTERNAL,
    ALTER COLUMN salt SET STORAGE EXTERNAL;

CREATE INDEX events_event_time ON public.events USING brin (event_time) WITH (autosummarize = on);
CREATE INDEX events_tenant_time ON public.events (tenant, event_time);
CREATE INDEX events_event_id ON public.events (event_id);
CREATE INDEX events_user_id ON public.events (user_id);
CREATE INDEX events_user_name ON public.events (user_name);
CREATE INDEX events_event_action ON public.events (event_action);

CREATE TABLE public.sink_offsets (
    sink        text        NOT NULL,
    topic       text        NOT NULL,
    partition   integer     NOT NULL,
    next_offset bigint      NOT NULL CHECK (next_offset >= 0),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (sink, topic, partition)
) WITH (fillfactor = 50);

-- Every time a row of evidence is replaced or removed.
CREATE TABLE public.repairs (
    id       bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    login    text        NOT NULL,
    action   text        NOT NULL,
    ledger   uuid        NOT NULL,
    seq      bigint      NOT NULL,
    old_rows integer     NOT NULL,
    old_leaf bytea,
    new_leaf bytea,
    reason   text        NOT NULL CHECK (reason <> '')
);

-- Evidence is append-only for everybody but its owner (and a superuser, whom no
-- trigger stops; what he does is found by verify). Privileges say so already; the
-- triggers stand in for privileges that somebody grants by mistake.
CREATE FUNCTION public.sealstream_guard() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT pg_has_role(current_user, 'sealstream_owner', 'MEMBER') THEN
        RAISE EXCEPTION '% of evidence in % refused: it is append-only', lower(TG_OP), TG_TABLE_NAME USING ERRCODE = '42501';
    END IF;
    IF TG_OP = 'DELETE' THEN
        RETURN OLD;
    END IF;
    RETURN NEW;
END
$$;

-- Row triggers of the parent are copied to each partition; those against TRUNCATE are not.
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON public.events
    FOR EACH ROW EXECUTE FUNCTION public.sealstream_guard();
CREATE TRIGGER append_only_truncate BEFORE TRUNCATE ON public.events
    FOR EACH STATEMENT EXECUTE FUNCTION public.sealstream_guard();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON public.repairs
    FOR EACH ROW EXECUTE FUNCTION public.sealstream_guard();
CREATE TRIGGER append_only_truncate BEFORE TRUNCATE ON public.repairs
    FOR EACH STATEMENT EXECUTE FUNCTION public.sealstream_guard();

-- Adds the partition of one month. ATTACH takes a lock that lets writers go on, CREATE
-- .. PARTITION OF would not.
CREATE FUNCTION public.sealstream_add_month(m date) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    name text := 'events_' || to_char(m, 'YYYYMM');
BEGIN
    IF m IS NULL OR m < '2020-01-01' OR m >= '2100-01-01' OR extract(day FROM m) <> 1 THEN
        RAISE EXCEPTION 'month % is not the first day of a month in [2020, 2100)', m USING ERRCODE = '42P17';
    END IF;
    -- Fast for a writer that starts: nothing to do, no lock.
    IF EXISTS (SELECT FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
            WHERE i.inhparent = 'public.events'::regclass AND c.relname = name) THEN
        RETURN;
    END IF;
    PERFORM pg_advisory_xact_lock(8242466327370001);
    IF EXISTS (SELECT FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
            WHERE i.inhparent = 'public.events'::regclass AND c.relname = name) THEN
        RETURN;
    END IF;
    IF EXISTS (SELECT FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relname = name) THEN
        RAISE EXCEPTION 'table public.% is there and is no partition of public.events: attach it, or rename it', name USING ERRCODE = '42P07';
    END IF;
    EXECUTE format('CREATE TABLE public.%I (LIKE public.events INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE INCLUDING COMPRESSION)', name);
    EXECUTE format('CREATE TRIGGER append_only_truncate BEFORE TRUNCATE ON public.%I FOR EACH STATEMENT EXECUTE FUNCTION public.sealstream_guard()', name);
    EXECUTE format('ALTER TABLE public.events ATTACH PARTITION public.%I FOR VALUES FROM (%L) TO (%L)', name, m, (m + interval '1 month')::date);
END
$$;

CREATE TABLE public.events_odd PARTITION OF public.events FOR VALUES FROM (MINVALUE) TO ('2020-01-01');
CREATE TRIGGER append_only_truncate BEFORE TRUNCATE ON public.events_odd
    FOR EACH STATEMENT EXECUTE FUNCTION public.sealstream_guard();

-- Tells the writer, which may not read evidence, whether what it holds is stored.
CREATE FUNCTION public.sealstream_holds(l uuid, s bigint, st bytea, sa bytea, fr bytea) RETURNS boolean
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    SELECT EXISTS (SELECT FROM public.events e
        WHERE e.ledger = l AND e.seq = s AND e.statement = st AND e.salt IS NOT DISTINCT FROM sa AND e.frame = fr)
$$;

-- Puts a row made from the ledger in the place of whatever stands there, and writes it down.
CREATE FUNCTION public.sealstream_replace(r public.events, reason text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    old bytea[];
BEGIN
    WITH gone AS (DELETE FROM public.events e WHERE e.ledger = r.ledger AND e.seq = r.seq RETURNING e.leaf_hash)
        SELECT array_agg(leaf_hash) INTO old FROM gone;
    INSERT INTO public.events SELECT (r).*;
    INSERT INTO public.repairs (login, action, ledger, seq, old_rows, old_leaf, new_leaf, reason)
        VALUES (session_user, 'replace', r.ledger, r.seq, coalesce(cardinality(old), 0), old[1], r.leaf_hash, reason);
END
$$;

-- Removes rows that no ledger has, and writes it down.
CREATE FUNCTION public.sealstream_remove(l uuid, s bigint, reason text) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    old bytea[];
BEGIN
    WITH gone AS (DELETE FROM public.events e WHERE e.ledger = l AND e.seq = s RETURNING e.leaf_hash)
        SELECT array_agg(leaf_hash) INTO old FROM gone;
    INSERT INTO public.repairs (login, action, ledger, seq, old_rows, old_leaf, reason)
        VALUES (session_user, 'remove', l, s, coalesce(cardinality(old), 0), old[1], reason);
    RETURN coalesce(cardinality(old), 0);
END
$$;

REVOKE ALL ON FUNCTION public.sealstream_guard(), public.sealstream_add_month(date),
    public.sealstream_holds(uuid, bigint, bytea, bytea, bytea), public.sealstream_replace(public.events, text),
    public.sealstream_remove(uuid, bigint, text) FROM PUBLIC;
REVOKE ALL ON TABLE public.events, public.sink_offsets, public.repairs FROM PUBLIC;

GRANT INSERT ON TABLE public.events TO sealstream_writer;
GRANT SELECT, INSERT, UPDATE ON TABLE public.sink_offsets TO sealstream_writer;
GRANT EXECUTE ON FUNCTION public.sealstream_add_month(date), public.sealstream_holds(uuid, bigint, bytea, bytea, bytea) TO sealstream_writer;

GRANT SELECT ON TABLE public.events, public.sink_offsets, public.repairs TO sealstream_reader, sealstream_repair;
GRANT EXECUTE ON FUNCTION public.sealstream_add_month(date), public.sealstream_replace(public.events, text),
    public.sealstream_remove(uuid, bigint, text) TO sealstream_repair;

-- Large frames are stored compressed; lz4 costs a fraction of the default's CPU, but not
-- every server is built with it.
DO $$
BEGIN
    ALTER TABLE public.events ALTER COLUMN frame SET COMPRESSION lz4;
    ALTER TABLE public.events_odd ALTER COLUMN frame SET COMPRESSION lz4;
EXCEPTION WHEN feature_not_supported THEN
    NULL;
END
$$;
