-- Facts that need several files: run at every publish, over rows that are as the parsers left them. Files are
-- joined by evidence alone (measured values that agree, or the folder together with what was measured), never
-- because nothing else is near; a fact in which they contradict each other keeps them apart. Of several equal
-- candidates the one in the same folder is meant, and last comes run_id, which is made from content: so the
-- order in which files arrive changes nothing. Each link says in run_sources why it was made.

DELETE FROM run_sources;

DELETE FROM load_level_sources;

CREATE OR REPLACE TEMP TABLE link_files AS
SELECT file_id, format, path, regexp_replace(path, '/?[^/]*$', '') AS folder
FROM source_files
WHERE status = 'ingested';

-- A. perf_analyzer: CSV, text report and profile export of one sweep become one run.

CREATE OR REPLACE TEMP TABLE link_tests AS
SELECT r.run_id, r.file_id, f.format, f.path, f.folder, r.parent_run_id, r.model, r.batch_size,
       coalesce(json_extract_string(r.config, '$.ensemble_part') = 'true', false) AS is_part,
       json_extract_string(r.config, '$.model_version') AS model_version,
       json_extract_string(r.config, '$.parent_path') AS parent_path,
       (SELECT count(*) FROM cleaned_load_levels AS l WHERE l.run_id = r.run_id
         AND l.throughput_per_s IS NOT NULL) AS levels
FROM cleaned_runs AS r JOIN link_files AS f USING (file_id)
WHERE f.format IN ('perf_analyzer_csv', 'perf_analyzer_report', 'perf_analyzer_export');

-- The median agrees to the microsecond. Throughput has six digits in the CSV, two decimals in a report after
-- a warning, and counts requests (not samples) in an export, so there it agrees up to one whole factor, the
-- batch size.
CREATE OR REPLACE TEMP TABLE link_candidates AS
WITH pairs AS (
    SELECT a.run_id, a.format, a.levels, b.run_id AS other_id, b.format AS other_format,
           b.levels AS other_levels, a.folder = b.folder AS same_folder,
           y.throughput_per_s AS other_throughput,
           x.throughput_per_s AS throughput,
           CASE WHEN a.format = 'perf_analyzer_export'
                THEN greatest(round(y.throughput_per_s / nullif(x.throughput_per_s, 0)), 1)
                ELSE 1
           END AS factor
    FROM link_tests AS a
    JOIN cleaned_load_levels AS x ON x.run_id = a.run_id
    JOIN cleaned_load_levels AS y ON y.mode = x.mode AND y.level = x.level AND y.p50_us = x.p50_us
    JOIN link_tests AS b ON b.run_id = y.run_id
    WHERE NOT a.is_part AND NOT b.is_part
      AND coalesce(a.model = b.model, true) AND coalesce(a.batch_size = b.batch_size, true)
      AND ((a.format = 'perf_analyzer_report' AND b.format = 'perf_analyzer_csv')
           OR (a.format = 'perf_analyzer_export' AND
               b.format IN ('perf_analyzer_csv', 'perf_analyzer_report')))
),
agreeing AS (
    SELECT run_id, other_id, any_value(other_format) AS other_format,
           any_value(same_folder) AS same_folder, count(*) AS common, min(factor) AS factor,
           max(factor) AS largest_factor, least(any_value(levels), any_value(other_levels)) AS needed
    FROM pairs
    WHERE same_throughput(other_throughput, factor * throughput)
    GROUP BY run_id, other_id
)
SELECT *
FROM agreeing
WHERE common = needed AND factor = largest_factor;

CREATE OR REPLACE TEMP TABLE link_best AS
SELECT run_id, other_id, factor,
       concat('median latency and throughput agree at ', common, ' load levels',
         CASE WHEN factor > 1 THEN concat(' with ', factor::BIGINT, ' samples a request') END,
         CASE WHEN same_folder THEN '; same folder' END) AS why
FROM link_candidates
QUALIFY row_number() OVER (
    PARTITION BY run_id ORDER BY other_format = 'perf_analyzer_csv' DESC, same_folder DESC, common DESC,
      other_id
) = 1;

-- A sweep whose first level never got stable leaves a CSV without rows beside its report.
INSERT INTO link_best
SELECT a.run_id, any_value(b.run_id), 1, 'same folder, and neither holds a level that was measured'
FROM link_tests AS a
JOIN link_tests AS b ON b.folder = a.folder AND b.format = 'perf_analyzer_csv' AND b.levels = 0
  AND NOT b.is_part
WHERE a.format = 'perf_analyzer_report' AND a.levels = 0 AND NOT a.is_part
  AND coalesce(a.model = b.model, true) AND coalesce(a.batch_size = b.batch_size, true)
  AND (SELECT count(*) FROM link_tests AS o WHERE o.folder = a.folder AND o.format = a.format
    AND o.levels = 0 AND NOT o.is_part) = 1
GROUP BY a.run_id
HAVING count(*) = 1;

CREATE OR REPLACE TEMP TABLE link_merged AS
SELECT a.run_id, coalesce(b.other_id, a.other_id) AS kept_id, a.factor, a.why
FROM link_best AS a LEFT JOIN link_best AS b ON b.run_id = a.other_id;

-- B. Composing models: a CSV beside the ensemble's joins it by its name, else by its levels.

CREATE OR REPLACE TEMP TABLE link_parents AS
WITH pairs AS (
    SELECT p.run_id, e.run_id AS ensemble_id, p.levels, count(*) AS common,
           max(abs(x.throughput_per_s - y.throughput_per_s) / nullif(y.throughput_per_s, 0)) AS off,
           bool_or(e.path = p.parent_path) AS is_named,
           bool_or(p.folder = e.folder) AS same_folder
    FROM link_tests AS p
    JOIN cleaned_load_levels AS x ON x.run_id = p.run_id
    JOIN cleaned_load_levels AS y ON y.mode = x.mode AND y.level = x.level
    JOIN link_tests AS e ON e.run_id = y.run_id
    WHERE p.is_part AND p.format = 'perf_analyzer_csv'
      AND NOT e.is_part AND e.run_id NOT IN (SELECT run_id FROM link_merged)
    GROUP BY p.run_id, e.run_id, p.levels
)
SELECT run_id, ensemble_id,
       concat(CASE WHEN is_named THEN 'named after the ensemble''s file; ' END,
         'load levels are the ensemble''s, throughput within ', round(100 * off, 1), ' %',
         CASE WHEN same_folder THEN '; same folder' END) AS why
FROM pairs
WHERE common = levels AND (is_named OR (same_folder AND off <= 0.05) OR (levels > 1 AND off <= 0.01))
QUALIFY row_number() OVER (PARTITION BY run_id ORDER BY is_named DESC, same_folder DESC, off,
  ensemble_id) = 1;

UPDATE cleaned_runs AS r SET parent_run_id = p.ensemble_id
FROM link_parents AS p
WHERE r.run_id = p.run_id;

-- The parts that a merged report lists are parts of the kept run: one with the CSV's where there is one, else
-- its own.
INSERT INTO link_merged
SELECT part.run_id, min(csv.run_id), 1,
  'composing model of the same name and version, of a report that is the ensemble''s'
FROM link_tests AS part
JOIN link_merged AS m ON m.run_id = part.parent_run_id
JOIN link_parents AS p ON p.ensemble_id = m.kept_id
JOIN link_tests AS csv ON csv.run_id = p.run_id AND csv.model = part.model
WHERE part.is_part AND (part.model_version IS NULL OR coalesce(csv.model_version, '') IN ('',
  part.model_version))
GROUP BY part.run_id;

UPDATE cleaned_runs AS r SET parent_run_id = m.kept_id
FROM link_merged AS m
WHERE r.parent_run_id = m.run_id;

-- C. Model Analyzer: the readings of a GPU table belong to the runs of the inference table.

INSERT INTO link_merged
SELECT g.run_id, i.run_id, 1,
  'same folder, model, configuration and batch size, and no load level that is not the run''s'
FROM cleaned_runs AS g
JOIN cleaned_runs AS i ON i.tool = g.tool AND i.model = g.model
    AND i.batch_size IS NOT DISTINCT FROM g.batch_size
    AND json_extract_string(i.config, '$.model_config_path') IS NOT DISTINCT
      FROM json_extract_string(g.config, '$.model_config_path')
JOIN link_files AS gf ON gf.file_id = g.file_id
JOIN link_files AS mf ON mf.file_id = i.file_id AND mf.folder = gf.folder
WHERE g.tool = 'model_analyzer'
  AND json_extract_string(g.config, '$.measures') = 'gpus'
  AND json_extract_string(i.config, '$.measures') IS NULL
  AND coalesce(json_extract_string(i.config, '$.instance_group') = json_extract_string(g.config,
    '$.instance_group'), true)
  AND NOT EXISTS (
      SELECT 1 FROM cleaned_load_gpus AS x WHERE x.run_id = g.run_id
      AND NOT EXISTS (SELECT 1 FROM cleaned_load_levels AS l WHERE l.run_id = i.run_id AND l.level
        IS NOT DISTINCT FROM x.level)
  )
QUALIFY row_number() OVER (PARTITION BY g.run_id ORDER BY i.run_id) = 1;

-- D. perf4sight: the rows of a -gt file that its plain twin holds too count once. The plain row is kept.

CREATE OR REPLACE TEMP TABLE link_profiles AS
SELECT r.run_id, r.file_id, r.status, r.model, r.pruning_ratio,
       json_extract_string(r.config, '$.test_var') AS test_var,
       json_extract_string(r.config, '$.layout') AS layout,
       row_number() OVER (PARTITION BY r.file_id, fingerprint ORDER BY r.run_index) AS nth, fingerprint
FROM (
    SELECT *, to_json({
        'test_var': json_extract_string(config, '$.test_var'), 'file': json_extract_string(config,
          '$.model_file'),
        'model': model, 'stage': stage, 'level': pruning_ratio, 'batch_size': batch_size, 'status': status,
        'latency': latency_ms, 'allocated': memory_allocated_mib, 'reserved': memory_reserved_mib,
          'used': memory_used_mib
    })::VARCHAR AS fingerprint
    FROM cleaned_runs
    WHERE tool = 'perf4sight'
) AS r;

CREATE OR REPLACE TEMP TABLE link_twins AS
SELECT t.file_id, p.file_id AS plain_file_id
FROM link_profiles AS t
JOIN link_profiles AS p USING (fingerprint, nth)
JOIN link_files AS tf ON tf.file_id = t.file_id
JOIN link_files AS pf ON pf.file_id = p.file_id
WHERE t.layout = 'columns' AND p.layout = 'dict'
GROUP BY t.file_id, p.file_id
-- Rows out of memory hold no measure to know them by: files of nothing else are twins only side by side.
HAVING count(*) FILTER (t.status = 'ok') > 0
    OR (bool_and(tf.folder = pf.folder) AND NOT EXISTS (SELECT 1 FROM link_profiles AS o
      WHERE o.file_id = t.file_id AND o.status = 'ok'))
QUALIFY row_number() OVER (
    PARTITION BY t.file_id
    ORDER BY count(*) FILTER (t.status = 'ok') DESC, count(*) DESC, bool_and(tf.folder = pf.folder) DESC,
      p.file_id
) = 1;

INSERT INTO link_merged
SELECT t.run_id, p.run_id, 1, 'the same row in the file''s twin: every setting and measured value agrees'
FROM link_twins AS w
JOIN link_profiles AS t ON t.file_id = w.file_id
JOIN link_profiles AS p ON p.file_id = w.plain_file_id AND p.fingerprint = t.fingerprint AND p.nth = t.nth;

-- A row that the twin lacks was taken out by hand.
UPDATE cleaned_runs SET quality = list_sort(list_distinct(list_append(quality, 'removed_from_twin')))
WHERE file_id IN (SELECT plain_file_id FROM link_twins)
  AND run_id NOT IN (SELECT kept_id FROM link_merged);

-- E. ai3: the layers of a profile are a part of the run that the overall table tells of. The same folder or
-- the same device says so; layers that take longer than the whole network are another measurement's. (Sanity
-- sweeps time two passes after one warm-up: there the times tell nothing.)

CREATE OR REPLACE TEMP TABLE link_layers AS
SELECT l.run_id, o.run_id AS overall_id,
       concat('same model, algorithm, input size', CASE WHEN l.device IS NOT NULL THEN ' and device' END,
         CASE WHEN lf.folder = pf.folder THEN '; same folder' END,
         '; the layers take no longer than the run') AS why
FROM cleaned_runs AS l
JOIN cleaned_runs AS o ON o.tool = l.tool AND o.model = l.model AND o.algorithm = l.algorithm
    AND o.input_size = l.input_size AND o.device IS NOT DISTINCT FROM l.device
JOIN link_files AS lf ON lf.file_id = l.file_id
JOIN link_files AS pf ON pf.file_id = o.file_id
WHERE l.tool = 'ai3' AND json_extract_string(l.config, '$.measures') = 'layers'
  AND json_extract_string(o.config, '$.measures') IS NULL
  AND (l.batch_size IS NULL OR l.batch_size = o.batch_size)
  AND (lf.folder = pf.folder OR l.device IS NOT NULL)
  AND (json_extract_string(o.config, '$.sweep_stage') IS NOT DISTINCT FROM 'sanity'
       OR (SELECT sum(mean_ms) FROM cleaned_layers AS x WHERE x.run_id = l.run_id) <= 1.25 * o.latency_ms)
QUALIFY row_number() OVER (
    PARTITION BY l.run_id
    ORDER BY (lf.folder = pf.folder) DESC,
        json_extract_string(o.config, '$.sweep_stage') IS NOT DISTINCT FROM json_extract_string(l.config,
          '$.sweep_stage') DESC,
        o.run_id
) = 1;

UPDATE cleaned_runs AS r SET parent_run_id = b.overall_id
FROM link_layers AS b
WHERE r.run_id = b.run_id;

-- F. Results that a tool writes twice, as JSON and as a table or text of fewer digits: the JSON is kept.

CREATE OR REPLACE TEMP TABLE link_doubles AS
SELECT t.run_id, j.run_id AS kept_id,
       concat('requests, throughput and latency agree',
         CASE WHEN tf.folder = jf.folder THEN '; same folder' END) AS why
FROM cleaned_runs AS t
JOIN cleaned_runs AS j ON j.tool = t.tool AND coalesce(j.model = t.model, true)
JOIN link_files AS tf ON tf.file_id = t.file_id
JOIN link_files AS jf ON jf.file_id = j.file_id
JOIN cleaned_load_levels AS x ON x.run_id = t.run_id
JOIN cleaned_load_levels AS y ON y.run_id = j.run_id AND y.requests = x.requests
WHERE ((tf.format = 'genai_perf' AND jf.format = 'aiperf_json') OR (tf.format = 'vllm_bench_text'
  AND jf.format = 'vllm_bench'))
  -- Two decimals of requests per second, and of milliseconds.
  AND abs(x.throughput_per_s - y.throughput_per_s) <= 0.0051
  AND coalesce(abs(x.avg_us - y.avg_us) <= 5.1, true) AND coalesce(abs(x.p50_us - y.p50_us) <= 5.1, true)
  AND coalesce(abs(x.ttft_p50_us - y.ttft_p50_us) <= 5.1, true)
  AND coalesce(abs(t.duration_s - j.duration_s) <= 0.0051, true)
  AND (x.avg_us IS NOT NULL AND y.avg_us IS NOT NULL OR x.ttft_p50_us IS NOT NULL
    AND y.ttft_p50_us IS NOT NULL)
QUALIFY row_number() OVER (PARTITION BY t.run_id ORDER BY (tf.folder = jf.folder) DESC, j.run_id) = 1;

INSERT INTO link_merged
SELECT run_id, kept_id, 1, why FROM link_doubles;
