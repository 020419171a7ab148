-- What link_runs.sql found to be one run becomes one: what each file said is kept, then rows are joined.

-- G. What each file said, before the rows become one.

INSERT INTO run_sources (run_id, file_id, source_run_id, format, why)
SELECT g.kept_id, r.file_id, g.run_id, f.format, g.why
FROM (
    SELECT run_id, kept_id, why FROM link_merged
    UNION
    SELECT kept_id, kept_id, 'the run that the others were joined to' FROM link_merged
) AS g
JOIN cleaned_runs AS r ON r.run_id = g.run_id
JOIN link_files AS f ON f.file_id = r.file_id;

INSERT INTO load_level_sources (
    run_id, file_id, source_run_id, format, mode, level, throughput_per_s, response_throughput_per_s,
      requests,
    avg_us, std_us, p50_us, p90_us, p95_us, p99_us
)
SELECT s.run_id, s.file_id, s.source_run_id, s.format, l.mode, l.level,
  l.throughput_per_s * coalesce(m.factor, 1),
       l.response_throughput_per_s, l.requests, l.avg_us, l.std_us, l.p50_us, l.p90_us, l.p95_us, l.p99_us
FROM run_sources AS s
JOIN cleaned_load_levels AS l ON l.run_id = s.source_run_id
LEFT JOIN link_merged AS m ON m.run_id = s.source_run_id;

-- Parts of another file's run keep rows of their own; that they are parts has a reason too.
INSERT INTO run_sources (run_id, file_id, source_run_id, format, why)
SELECT p.run_id, r.file_id, p.run_id, f.format, concat('part of ', p.parent_id, ': ', p.why)
FROM (
    SELECT run_id, ensemble_id AS parent_id, why FROM link_parents
    UNION ALL
    SELECT run_id, overall_id, why FROM link_layers
) AS p
JOIN cleaned_runs AS r ON r.run_id = p.run_id
JOIN link_files AS f ON f.file_id = r.file_id
WHERE p.run_id NOT IN (SELECT source_run_id FROM run_sources);

-- H. The kept run takes over what its own file does not say: first from the report, then from the export.

-- What a table or text repeats of its JSON adds nothing.
DELETE FROM cleaned_load_levels WHERE run_id IN (SELECT run_id FROM link_doubles);

DELETE FROM cleaned_load_gpus WHERE run_id IN (SELECT run_id FROM link_doubles);

DELETE FROM cleaned_counters WHERE run_id IN (SELECT run_id FROM link_doubles);

UPDATE cleaned_runs SET quality = list_filter(quality, lambda flag: flag <> 'gpu_columns_missing')
WHERE run_id IN (SELECT run_id FROM link_doubles);

CREATE OR REPLACE TEMP TABLE link_order AS
SELECT m.run_id, m.kept_id, m.factor, r.file_id,
       row_number() OVER (PARTITION BY m.kept_id ORDER BY f.format = 'perf_analyzer_report' DESC, f.format,
         m.run_id) AS priority
FROM link_merged AS m
JOIN cleaned_runs AS r ON r.run_id = m.run_id
JOIN link_files AS f ON f.file_id = r.file_id;

CREATE OR REPLACE TEMP TABLE link_levels AS
SELECT o.kept_id, l.mode, l.level,
       arg_min(l.response_throughput_per_s, o.priority) AS response_throughput_per_s,
       arg_min(l.send_rate_per_s, o.priority) AS send_rate_per_s,
       arg_min(l.delayed_pct, o.priority) AS delayed_pct,
       arg_min(l.requests, o.priority) AS requests,
       arg_min(l.avg_us, o.priority) AS avg_us,
       arg_min(l.std_us, o.priority) AS std_us,
       arg_min(l.request_response_us, o.priority) AS request_response_us,
       arg_min(l.response_wait_us, o.priority) AS response_wait_us,
       arg_min(l.composing_queue_us, o.priority) AS composing_queue_us,
       arg_min(l.batch_size, o.priority) AS batch_size,
       arg_min(l.stable, o.priority) AS stable,
       flatten(list(l.quality)) AS quality
FROM link_order AS o JOIN cleaned_load_levels AS l ON l.run_id = o.run_id
GROUP BY o.kept_id, l.mode, l.level;

UPDATE cleaned_load_levels AS k SET
    response_throughput_per_s = coalesce(k.response_throughput_per_s, f.response_throughput_per_s),
    send_rate_per_s = coalesce(k.send_rate_per_s, f.send_rate_per_s),
    delayed_pct = coalesce(k.delayed_pct, f.delayed_pct),
    requests = coalesce(k.requests, f.requests),
    avg_us = coalesce(k.avg_us, f.avg_us),
    std_us = coalesce(k.std_us, f.std_us),
    request_response_us = coalesce(k.request_response_us, f.request_response_us),
    response_wait_us = coalesce(k.response_wait_us, f.response_wait_us),
    composing_queue_us = coalesce(k.composing_queue_us, f.composing_queue_us),
    batch_size = coalesce(k.batch_size, f.batch_size),
    stable = coalesce(k.stable, f.stable),
    quality = list_sort(list_distinct(list_concat(k.quality, f.quality)))
FROM link_levels AS f
WHERE k.run_id = f.kept_id AND k.mode = f.mode AND k.level = f.level;

-- Levels that only another file has (an unstable one that ended the sweep) come along.
UPDATE cleaned_load_levels AS l SET run_id = b.kept_id
FROM (
    SELECT o.run_id, o.kept_id, x.mode, x.level
    FROM link_order AS o JOIN cleaned_load_levels AS x ON x.run_id = o.run_id
    WHERE NOT EXISTS (
        SELECT 1 FROM cleaned_load_levels AS k
        WHERE k.run_id = o.kept_id AND k.mode IS NOT DISTINCT FROM x.mode AND k.level IS NOT DISTINCT
          FROM x.level
    )
    QUALIFY row_number() OVER (PARTITION BY o.kept_id, x.mode, x.level ORDER BY o.priority) = 1
) AS b
WHERE l.run_id = b.run_id AND l.mode IS NOT DISTINCT FROM b.mode AND l.level IS NOT DISTINCT FROM b.level;

DELETE FROM cleaned_load_levels WHERE run_id IN (SELECT run_id FROM link_merged);

UPDATE cleaned_load_gpus AS g SET run_id = b.kept_id
FROM (
    SELECT o.run_id, o.kept_id, x.level, x.gpu_uuid
    FROM link_order AS o JOIN cleaned_load_gpus AS x ON x.run_id = o.run_id
    WHERE NOT EXISTS (
        SELECT 1 FROM cleaned_load_gpus AS k
        WHERE k.run_id = o.kept_id AND k.level IS NOT DISTINCT FROM x.level AND k.gpu_uuid = x.gpu_uuid
    )
    QUALIFY row_number() OVER (PARTITION BY o.kept_id, x.level, x.gpu_uuid ORDER BY o.priority) = 1
) AS b
WHERE g.run_id = b.run_id AND g.level IS NOT DISTINCT FROM b.level AND g.gpu_uuid = b.gpu_uuid;

DELETE FROM cleaned_load_gpus WHERE run_id IN (SELECT run_id FROM link_merged);

UPDATE cleaned_counters AS c SET run_id = m.kept_id
FROM link_merged AS m
WHERE c.run_id = m.run_id;

UPDATE cleaned_runs AS k SET
    batch_size = coalesce(f.batch_size, k.batch_size),
    model = coalesce(k.model, f.model),
    device = coalesce(k.device, f.device),
    device_raw = CASE WHEN k.device IS NULL AND f.device IS NOT NULL THEN f.device_raw
      ELSE coalesce(k.device_raw, f.device_raw) END,
    device_kind = coalesce(k.device_kind, f.device_kind),
    started_at = coalesce(k.started_at, f.started_at),
    duration_s = coalesce(k.duration_s, f.duration_s),
    quality = list_sort(list_distinct(list_concat(k.quality, f.quality)))
FROM (
    SELECT o.kept_id,
           -- An export does not tell the batch size; by how much the others' throughput is larger, does.
           coalesce(
               arg_min(r.batch_size, o.priority), max(o.factor) FILTER (o.factor > 1)
           )::BIGINT AS batch_size,
           arg_min(r.model, o.priority) AS model, arg_min(r.device, o.priority) AS device,
           coalesce(
               arg_min(r.device_raw, o.priority) FILTER (r.device IS NOT NULL),
               arg_min(r.device_raw, o.priority)
           ) AS device_raw,
           arg_min(r.device_kind, o.priority) AS device_kind,
           arg_min(r.started_at, o.priority) AS started_at, arg_min(r.duration_s, o.priority) AS duration_s,
           flatten(list(r.quality)) AS quality
    FROM link_order AS o JOIN cleaned_runs AS r ON r.run_id = o.run_id
    WHERE r.tool <> 'perf4sight'
    GROUP BY o.kept_id
) AS f
WHERE k.run_id = f.kept_id;

-- Settings and versions that another file tells go to config. Where both say it, the kept run's word stands.
UPDATE cleaned_runs AS k SET config = json_merge_patch(f.config, coalesce(k.config, '{}'::JSON))
FROM (
    SELECT o.kept_id, list_reduce(list(r.config ORDER BY o.priority DESC), lambda a, b: json_merge_patch(a,
      b)) AS config
    FROM link_order AS o JOIN cleaned_runs AS r ON r.run_id = o.run_id
    WHERE r.tool = 'perf_analyzer' AND r.config IS NOT NULL
    GROUP BY o.kept_id
) AS f
WHERE k.run_id = f.kept_id;

DELETE FROM cleaned_runs WHERE run_id IN (SELECT run_id FROM link_merged);

-- I. What follows for the joined runs.

UPDATE cleaned_runs AS r SET quality = list_filter(r.quality, lambda flag: flag <> 'gpu_columns_missing')
WHERE r.run_id IN (SELECT kept_id FROM link_merged)
  AND r.run_id IN (SELECT run_id FROM cleaned_load_gpus);

-- The mean latency of the summary level, where the kept file had the median only.
UPDATE cleaned_runs AS r SET
    latency_ms = l.avg_us / 1000,
    latency_std_ms = coalesce(l.std_us / 1000, r.latency_std_ms),
    latency_statistic = 'mean'
FROM cleaned_load_levels AS l
WHERE l.run_id = r.run_id AND r.run_id IN (SELECT kept_id FROM link_merged)
  AND l.level = json_extract_string(r.config, '$.summary_level')::DOUBLE AND l.avg_us IS NOT NULL;

UPDATE cleaned_runs AS r SET mean_power_w = g.power_w
FROM (
    SELECT run_id, level, sum(power_w) AS power_w
    FROM cleaned_load_gpus
    WHERE utilization > 0
    GROUP BY run_id, level
) AS g
WHERE g.run_id = r.run_id AND r.run_id IN (SELECT kept_id FROM link_merged) AND r.mean_power_w IS NULL
  AND g.level = json_extract_string(r.config, '$.summary_level')::DOUBLE;

-- The queueing of an ensemble is that of its composing models. An inner ensemble repeats its own steps: leave
-- it out.
UPDATE cleaned_load_levels AS e SET composing_queue_us = q.queue_us
FROM (
    SELECT r.parent_run_id, l.mode, l.level, sum(l.queue_us) AS queue_us
    FROM cleaned_runs AS r JOIN cleaned_load_levels AS l ON l.run_id = r.run_id
    WHERE r.tool = 'perf_analyzer' AND r.parent_run_id IS NOT NULL AND l.compute_us IS NULL
      AND l.queue_us IS NOT NULL
    GROUP BY r.parent_run_id, l.mode, l.level
) AS q
WHERE e.run_id = q.parent_run_id AND e.mode = q.mode AND e.level = q.level;

DROP TABLE link_files;

DROP TABLE link_tests;

DROP TABLE link_candidates;

DROP TABLE link_best;

DROP TABLE link_merged;

DROP TABLE link_parents;

DROP TABLE link_layers;

DROP TABLE link_doubles;

DROP TABLE link_profiles;

DROP TABLE link_twins;

DROP TABLE link_order;

DROP TABLE link_levels
