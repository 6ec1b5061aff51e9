-- Whose stored offsets these are. A name alone does not say it: another cluster has topics
-- of the same names, and a topic that was made anew has its old name. Offsets of one are
-- nothing to the other: records would be passed that were never stored. So the first sink
-- that stores a topic writes down which one it is, and every later one compares.

CREATE TABLE public.sink_topics (
    sink     text        NOT NULL,
    topic    text        NOT NULL,
    topic_id uuid        NOT NULL,
    cluster  text        NOT NULL,
    prefix   text        NOT NULL,
    since    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (sink, topic)
);
COMMENT ON TABLE public.sink_topics IS 'Which topic of which Kafka cluster the rows of sink_offsets are about.';

REVOKE ALL ON TABLE public.sink_topics FROM PUBLIC;
GRANT SELECT, INSERT ON TABLE public.sink_topics TO sealstream_writer;
GRANT SELECT ON TABLE public.sink_topics TO sealstream_reader, sealstream_repair;
