-- What people said of runs goes to the runs' rows. A run is known by the path and content of its file and its position
-- there, and must have begun when it was said to have: so a word follows a log that grew or moved, and does not
-- pass to another run that was written over it. The last word counts; rows that already say it stay untouched.

CREATE OR REPLACE TEMP TABLE said AS
SELECT DISTINCT r.run_id, a.action, a.value, a.said_at, a.file_id, a.line_number
FROM run_annotations AS a
JOIN source_files AS f
  ON (f.path = a.path OR f.file_id = a.about_file_id) AND f.status IN ('ingested', 'duplicate')
JOIN (
    SELECT file_id, run_index, run_id FROM cleaned_runs
    UNION
    -- A run that was joined to another answers to its own position too.
    SELECT file_id, TRY_CAST(right(source_run_id, 4) AS BIGINT), run_id FROM run_sources
) AS s ON s.file_id = f.file_id AND s.run_index = a.run_index
JOIN cleaned_runs AS r ON r.run_id = s.run_id
WHERE coalesce(a.started_at = r.started_at, true);

CREATE OR REPLACE TEMP TABLE wanted AS
WITH latest AS (
    SELECT run_id, action, value, said_at, file_id, line_number,
           row_number() OVER (
             PARTITION BY run_id, action IN ('exclude', 'include'), CASE WHEN action IN ('tag', 'untag') THEN value END
             ORDER BY said_at DESC, file_id DESC, line_number DESC) AS age
    FROM said WHERE action <> 'note'
),
notes AS (
    SELECT run_id, string_agg(value, chr(10) ORDER BY said_at DESC, file_id DESC, line_number DESC) AS note
    FROM said WHERE value IS NOT NULL AND action IN ('note', 'exclude', 'include')
    GROUP BY run_id
)
SELECT run_id,
       coalesce(list_sort(list(l.value) FILTER (l.action = 'tag' AND l.age = 1)), []) AS tags,
       any_value(n.note) AS note,
       coalesce(bool_or(l.action = 'exclude' AND l.age = 1), false) AS excluded
FROM (SELECT DISTINCT run_id FROM said) AS s
LEFT JOIN latest AS l USING (run_id)
LEFT JOIN notes AS n USING (run_id)
GROUP BY run_id;

UPDATE cleaned_runs AS r SET tags = w.tags, note = w.note, excluded = w.excluded
FROM wanted AS w
WHERE w.run_id = r.run_id
  AND (r.tags IS DISTINCT FROM w.tags OR r.note IS DISTINCT FROM w.note OR r.excluded IS DISTINCT FROM w.excluded);

UPDATE cleaned_runs SET tags = [], note = NULL, excluded = false
WHERE (excluded OR note IS NOT NULL OR len(tags) > 0) AND run_id NOT IN (SELECT run_id FROM wanted);

DROP TABLE said;

DROP TABLE wanted
