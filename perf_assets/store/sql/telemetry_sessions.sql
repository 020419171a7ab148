-- Energy by the trapezoid rule over each device's own time stamps. Polls without a power reading are passed
-- over; a hole of more than 60 s is not integrated.
CREATE VIEW telemetry_sessions AS
WITH steps AS (
    SELECT
        *,
        epoch(polled_at) - epoch(lag(polled_at) OVER polls) AS step_s,
        (power_w + lag(power_w) OVER polls) / 2 AS step_power_w
    FROM cleaned_telemetry
    WHERE power_w IS NOT NULL
    WINDOW polls AS (PARTITION BY file_id, device_id, session ORDER BY polled_at, line_number)
),
energies AS (
    SELECT file_id, device_id, session, sum(step_s * step_power_w) FILTER (step_s <= 60) AS energy_j
    FROM steps
    GROUP BY ALL
)
SELECT
    polls.file_id,
    polls.device_id,
    any_value(polls.device_name) AS device_name,
    polls.session,
    min(polls.polled_at) AS started_at,
    max(polls.polled_at) AS ended_at,
    count(*) AS samples,
    any_value(energies.energy_j) AS energy_j,
    avg(polls.power_w) AS mean_power_w,
    max(polls.power_w) AS max_power_w,
    avg(polls.utilization_pct) AS mean_utilization_pct,
    max(polls.memory_used_mib) AS max_memory_mib
FROM cleaned_telemetry AS polls
LEFT JOIN energies USING (file_id, device_id, session)
GROUP BY polls.file_id, polls.device_id, polls.session;
