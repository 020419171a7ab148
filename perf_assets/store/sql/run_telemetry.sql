-- Poll logs joined to the runs that they watched. A session of a device belongs to a run where both name the same host,
-- or the same device and no other host, and they overlap in time. Polls that name their run (a recording's own) belong to
-- that run alone. The table telemetry_devices (device_name, device) is there when this runs: what polls call devices, by
-- normalised names. Who may belong with whom is asked of all runs and sessions; polls are read only for runs for which
-- the answer differs from the last time's, and for those that share a session with one of these.

CREATE OR REPLACE TEMP TABLE timed_runs AS
SELECT r.run_id, epoch(r.started_at) AS start_s, r.duration_s, lower(r.host) AS host, r.device,
       greatest(coalesce(r.device_count, r.world_size, 1), 1) AS devices,
       regexp_replace(f.path, '/?[^/]*$', '') AS folder
FROM cleaned_runs AS r
JOIN (SELECT file_id, min(path) AS path FROM source_files WHERE status = 'ingested' GROUP BY file_id) AS f
  USING (file_id)
WHERE r.duration_s > 0 AND r.parent_run_id IS NULL AND r.status NOT IN ('missing');

-- Without runs no session is looked at.
CREATE OR REPLACE TEMP TABLE watched AS
SELECT s.file_id, l.batch, s.device_id, s.session, d.device, lower(s.host) AS host, s.own_run_id, s.start_s, s.end_s,
       regexp_replace(f.path, '/?[^/]*$', '') AS folder
FROM (SELECT * FROM publication.sessions WHERE EXISTS (FROM timed_runs)) AS s
JOIN publication.loaded AS l USING (file_id)
JOIN (SELECT file_id, min(path) AS path FROM source_files WHERE status = 'ingested' GROUP BY file_id) AS f
  USING (file_id)
LEFT JOIN telemetry_devices AS d USING (device_name);

-- Who may belong with whom, each reason a join of its own. A run without a start time comes with the sessions of its own
-- folder only.
CREATE OR REPLACE TEMP TABLE candidates AS
WITH pairs AS (
    SELECT r.*, w.* EXCLUDE (device, host, start_s, folder), w.device AS polled_device, w.host AS polling_host,
           w.start_s AS polled_from_s
    FROM timed_runs AS r JOIN watched AS w ON r.run_id = w.own_run_id
    UNION
    SELECT r.*, w.* EXCLUDE (device, host, start_s, folder), w.device, w.host, w.start_s
    FROM timed_runs AS r JOIN watched AS w ON r.host = w.host AND r.start_s < w.end_s
    UNION
    SELECT r.*, w.* EXCLUDE (device, host, start_s, folder), w.device, w.host, w.start_s
    FROM timed_runs AS r JOIN watched AS w ON r.device = w.device AND r.start_s < w.end_s
    UNION
    SELECT r.*, w.* EXCLUDE (device, host, start_s, folder), w.device, w.host, w.start_s
    FROM timed_runs AS r JOIN watched AS w ON r.folder = w.folder
    WHERE r.start_s IS NULL AND r.duration_s <= w.end_s - w.start_s + 60
)
SELECT run_id, start_s, duration_s, devices, file_id, batch, device_id, session,
       CASE WHEN own_run_id = run_id THEN 'recording'
            WHEN start_s IS NULL THEN 'inferred'
            WHEN host = polling_host THEN 'host'
            ELSE 'device'
       END AS matched_by
FROM pairs
WHERE coalesce(start_s < end_s AND start_s + duration_s > polled_from_s, true)
  AND CASE WHEN own_run_id IS NOT NULL THEN own_run_id = run_id
           ELSE coalesce(host = polling_host, true) AND coalesce(device = polled_device, true)
      END;

-- A recording's own polls are its polls.
DELETE FROM candidates
WHERE matched_by <> 'recording' AND run_id IN (SELECT run_id FROM candidates WHERE matched_by = 'recording');

-- A log of the host itself is better than one of such a device somewhere.
DELETE FROM candidates
WHERE matched_by = 'device' AND run_id IN (SELECT run_id FROM candidates WHERE matched_by = 'host');

CREATE OR REPLACE TEMP TABLE differing AS
WITH RECURSIVE answers AS (
    SELECT run_id, file_id, device_id, session FROM candidates
    UNION
    SELECT run_id, file_id, device_id, session FROM publication.candidates
),
reached AS (
    SELECT run_id
    FROM (
        (SELECT * FROM candidates EXCEPT SELECT * FROM publication.candidates)
        UNION ALL
        (SELECT * FROM publication.candidates EXCEPT SELECT * FROM candidates)
    )
    UNION
    SELECT other.run_id
    FROM reached
    JOIN answers AS own USING (run_id)
    JOIN answers AS other USING (file_id, device_id, session)
)
SELECT run_id FROM reached;

DELETE FROM candidates WHERE run_id NOT IN (SELECT run_id FROM differing);

DELETE FROM publication.candidates WHERE run_id IN (SELECT run_id FROM differing);

INSERT INTO publication.candidates BY NAME FROM candidates;

DELETE FROM run_telemetry WHERE run_id IN (SELECT run_id FROM differing);

CREATE OR REPLACE TEMP TABLE steps AS
SELECT * FROM (
    SELECT t.file_id, t.device_id, t.session, epoch(t.polled_at) AS from_s,
           lead(epoch(t.polled_at)) OVER polls AS to_s,
           t.power_w AS from_w, lead(t.power_w) OVER polls AS to_w,
           t.utilization_pct AS from_pct, lead(t.utilization_pct) OVER polls AS to_pct
    FROM cleaned_telemetry AS t
    SEMI JOIN candidates AS c USING (file_id, device_id, session)
    WHERE t.polled_at IS NOT NULL
    WINDOW polls AS (PARTITION BY t.file_id, t.device_id, t.session ORDER BY t.polled_at, t.line_number)
)
WHERE to_s > from_s AND to_s - from_s <= 60;

-- Busy stretches: power above the middle between the session's quiet and its loaded level, where these differ. They
-- tell by how much the clocks of poller and run differ, and propose when a run without a start time was.
CREATE OR REPLACE TEMP TABLE stretches AS
WITH levels AS (
    SELECT file_id, device_id, session, quantile_cont(from_w, 0.02) AS quiet_w,
           quantile_cont(from_w, 0.98) AS loaded_w, median(to_s - from_s) AS step_s
    FROM steps WHERE from_w IS NOT NULL
    GROUP BY ALL
    HAVING loaded_w > 1.3 * quiet_w
),
marked AS (
    SELECT s.*, l.step_s, s.from_w > (l.quiet_w + l.loaded_w) / 2 AS is_busy,
           sum(CASE WHEN (s.from_w > (l.quiet_w + l.loaded_w) / 2) THEN 0 ELSE 1 END) OVER (
             PARTITION BY s.file_id, s.device_id, s.session ORDER BY s.from_s) AS island
    FROM steps AS s JOIN levels AS l USING (file_id, device_id, session)
)
-- An edge lies halfway between two polls.
SELECT file_id, device_id, session, any_value(step_s) AS step_s, min(from_s) - any_value(step_s) / 2 AS start_s,
       max(to_s) - any_value(step_s) / 2 AS end_s
FROM marked WHERE is_busy
GROUP BY file_id, device_id, session, island;

-- A stretch fits a run where it lasts as long, to two polls or 2 %, and begins at most two minutes off.
CREATE OR REPLACE TEMP TABLE fitting AS
SELECT c.run_id, c.file_id, c.device_id, c.session, c.matched_by, b.start_s AS busy_s,
       b.start_s - c.start_s AS offset_s, b.step_s
FROM candidates AS c JOIN stretches AS b USING (file_id, device_id, session)
WHERE abs(b.end_s - b.start_s - c.duration_s) <= greatest(2 * b.step_s, 0.02 * c.duration_s)
  AND coalesce(abs(b.start_s - c.start_s) <= 120, true) AND c.matched_by <> 'recording'
QUALIFY count(*) OVER (PARTITION BY c.run_id, c.file_id, c.device_id, c.session) = 1
    -- Nor may another run want the same stretch.
    AND count(*) OVER (PARTITION BY c.file_id, c.device_id, c.session, b.start_s) = 1;

CREATE OR REPLACE TEMP TABLE placed AS
SELECT c.run_id, c.file_id, c.device_id, c.session, c.matched_by, c.devices,
       CASE WHEN c.start_s IS NULL OR abs(f.offset_s) > f.step_s THEN f.offset_s END AS offset_s,
       CASE WHEN c.start_s IS NULL THEN f.busy_s
            ELSE c.start_s + CASE WHEN abs(f.offset_s) > f.step_s THEN f.offset_s ELSE 0 END
       END AS start_s,
       c.duration_s
FROM candidates AS c LEFT JOIN fitting AS f USING (run_id, file_id, device_id, session)
WHERE c.start_s IS NOT NULL OR f.busy_s IS NOT NULL;

-- A proposal that several sessions would fit proposes nothing.
DELETE FROM placed WHERE matched_by = 'inferred' AND run_id IN (
    SELECT run_id FROM placed WHERE matched_by = 'inferred' GROUP BY run_id HAVING count(*) > 1);

-- Of more polled devices than the run used, the busiest count.
CREATE OR REPLACE TEMP TABLE used AS
WITH loads AS (
    SELECT p.run_id, p.file_id, p.device_id,
           row_number() OVER (
             PARTITION BY p.run_id, p.file_id
             ORDER BY avg(coalesce(s.from_w, s.from_pct)) DESC NULLS LAST, p.device_id) AS place,
           count(*) OVER (PARTITION BY p.run_id, p.file_id) AS polled_devices
    FROM placed AS p JOIN steps AS s USING (file_id, device_id, session)
    WHERE s.from_s < p.start_s + p.duration_s AND s.to_s > p.start_s
    GROUP BY p.run_id, p.file_id, p.device_id
)
SELECT p.*, l.polled_devices, count(DISTINCT p.file_id) OVER (PARTITION BY p.run_id) AS logs
FROM placed AS p JOIN loads AS l USING (run_id, file_id, device_id)
WHERE l.place <= p.devices OR p.matched_by = 'recording';

-- Time is cut where runs begin and end: of each piece, all runs that were there get an equal share.
CREATE OR REPLACE TEMP TABLE pieces AS
SELECT b.file_id, b.device_id, b.session, b.at_s AS start_s, b.next_s AS end_s, count(*) AS runs,
       list(u.run_id) AS run_ids
FROM (
    SELECT *, lead(at_s) OVER (PARTITION BY file_id, device_id, session ORDER BY at_s) AS next_s
    FROM (
        SELECT DISTINCT file_id, device_id, session, unnest([start_s, start_s + duration_s]) AS at_s FROM used
    )
) AS b
JOIN used AS u ON u.file_id = b.file_id AND u.device_id = b.device_id AND u.session = b.session
  AND u.start_s <= b.at_s AND u.start_s + u.duration_s >= b.next_s
GROUP BY ALL;

INSERT INTO run_telemetry BY NAME
WITH clipped AS (
    SELECT p.*, greatest(s.from_s, p.start_s) AS low_s, least(s.to_s, p.end_s) AS high_s,
           ((low_s + high_s) / 2 - s.from_s) / (s.to_s - s.from_s) AS place,
           s.from_w + (s.to_w - s.from_w) * place AS power_w,
           s.from_pct + (s.to_pct - s.from_pct) * place AS utilization_pct
    FROM pieces AS p
    JOIN steps AS s ON s.file_id = p.file_id AND s.device_id = p.device_id AND s.session = p.session
      AND s.from_s < p.end_s AND s.to_s > p.start_s
),
sums AS (
    SELECT unnest(run_ids) AS run_id, file_id, device_id, session, high_s - low_s AS time_s, runs, power_w,
           utilization_pct
    FROM clipped
)
SELECT u.run_id, u.file_id AS telemetry_file_id, u.device_id, u.session, sum(s.time_s) AS overlap_s,
       sum(s.time_s * s.power_w / s.runs) AS energy_j,
       sum(s.time_s * s.power_w) / sum(s.time_s) FILTER (s.power_w IS NOT NULL) AS mean_power_w,
       sum(s.time_s * s.utilization_pct) / sum(s.time_s) FILTER (s.utilization_pct IS NOT NULL)
         AS mean_utilization_pct,
       any_value(u.matched_by) AS matched_by,
       sum(s.time_s / s.runs) / sum(s.time_s) AS share,
       any_value(CASE WHEN u.matched_by <> 'inferred' THEN u.offset_s END) AS clock_offset_s,
       nullif(concat_ws('; ',
         CASE WHEN any_value(u.matched_by) = 'inferred'
           THEN 'the only busy stretch in its folder that lasts as long' END,
         CASE WHEN any_value(u.matched_by) = 'device' AND any_value(u.logs) > 1
           THEN 'several logs of such a device overlap: which of them is not known' END,
         CASE WHEN any_value(u.polled_devices) > any_value(u.devices)
           THEN 'the busiest of the polled devices' END,
         CASE WHEN max(s.runs) > 1
           THEN concat('shared with up to ', max(s.runs) - 1, ' other runs at once') END), '') AS remark
FROM used AS u JOIN sums AS s USING (run_id, file_id, device_id, session)
GROUP BY u.run_id, u.file_id, u.device_id, u.session;

-- A recording whose own log has no energy (it was cut off, or a vendor's tool polled) takes it from its polls: those of
-- accelerators where there are any.
UPDATE cleaned_runs SET energy_j = NULL, mean_power_w = NULL, energy_basis = NULL
WHERE run_id IN (SELECT run_id FROM publication.energy_filled SEMI JOIN differing USING (run_id));

CREATE OR REPLACE TEMP TABLE filling AS
SELECT p.run_id, p.energy_j, p.energy_j / p.overlap_s AS mean_power_w
FROM (
    SELECT run_id, sum(energy_j) AS energy_j, max(overlap_s) AS overlap_s
    FROM (
        SELECT *, bool_or(device_id <> 'cpu') OVER (PARTITION BY run_id) AS has_accelerator
        FROM run_telemetry WHERE matched_by = 'recording'
    )
    WHERE device_id <> 'cpu' OR NOT has_accelerator
    GROUP BY run_id
) AS p
JOIN cleaned_runs AS r USING (run_id)
WHERE r.energy_j IS NULL AND p.energy_j IS NOT NULL AND p.overlap_s > 0;

UPDATE cleaned_runs AS r
SET energy_j = f.energy_j, mean_power_w = f.mean_power_w, energy_basis = 'run'
FROM filling AS f
WHERE r.run_id = f.run_id;

DELETE FROM publication.energy_filled WHERE run_id IN (SELECT run_id FROM differing);

INSERT INTO publication.energy_filled SELECT run_id FROM filling;

DROP TABLE filling;

DROP TABLE differing;

DROP TABLE watched;

DROP TABLE timed_runs;

DROP TABLE candidates;

DROP TABLE steps;

DROP TABLE stretches;

DROP TABLE fitting;

DROP TABLE placed;

DROP TABLE used;

DROP TABLE pieces
