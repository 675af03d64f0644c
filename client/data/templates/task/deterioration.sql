-- deterioration: every 12 hours of a stay on a ward, from the 12th: what was known by then, and
-- whether the patient died, went to intensive care or had a cardiac arrest in the 24 hours after.
-- Of each of these, what is known is between when and when it was: of a day without a time, between
-- its midnights.
wanted (name, feature, unit, factor, hours) AS (
  VALUES
    ('heart_rate', 'heart_rate', '/min', 1.0, 24),
    ('systolic_bp', 'systolic_bp', 'mm[Hg]', 1.0, 24),
    ('respiratory_rate', 'respiratory_rate', '/min', 1.0, 24),
    ('temperature', 'temperature', 'Cel', 1.0, 24),
    ('spo2', 'spo2', '%', 1.0, 24),
    ('fio2', 'fio2', '%', 1.0, 24),
    ('gcs_total', 'gcs_total', '{score}', 1.0, 24),
    ('creatinine', 'creatinine', 'mg/dL', 1.0, 48),
    ('bun', 'bun', 'mg/dL', 1.0, 48),
    ('urea', 'bun', 'mmol/L', 2.8014, 48),
    ('sodium', 'sodium', 'mmol/L', 1.0, 48),
    ('potassium', 'potassium', 'mmol/L', 1.0, 48),
    ('lactate', 'lactate', 'mmol/L', 1.0, 48),
    ('wbc', 'wbc', '10*3/uL', 1.0, 48),
    ('hemoglobin', 'hemoglobin', 'g/dL', 1.0, 48),
    ('platelets', 'platelets', '10*3/uL', 1.0, 48),
    ('bilirubin', 'bilirubin', 'mg/dL', 1.0, 48),
    ('albumin', 'albumin', 'g/dL', 1.0, 48),
    ('glucose', 'glucose', 'mg/dL', 1.0, 48),
    ('crp', 'crp', 'mg/L', 1.0, 48)
),
recalled (kind, hours) AS (VALUES ('medicine', 48), ('procedure', 48)),
ward AS (  -- of adults; without times of day, from the first midnight to the last
  SELECT s.stay, s.patient, p.sex, s.died, s.ended_on, s.ended_at,
    CAST(date_sub('year', p.birth, s.started_earliest) AS DOUBLE) AS age,
    coalesce(s.started_at, CAST(s.started_earliest AS TIMESTAMPTZ)) AS start,
    coalesce(s.ended_at, CAST(s.ended_on + 1 AS TIMESTAMPTZ)) AS stop,
    coalesce(p.dead, false) AND p.death_latest IS NULL AND s.died IS DISTINCT FROM true
      AS dead_undated,
    p.death_at, CAST(p.death_earliest AS TIMESTAMPTZ) AS death_earliest,
    CAST(p.death_latest + 1 AS TIMESTAMPTZ) AS death_latest,
    s.died AND coalesce(p.death_latest >= s.ended_on, s.ended_on IS NOT NULL) AS died_at_end
  FROM stays s JOIN people p USING (patient)
  WHERE s.kind = 'inpatient' AND s.dated AND date_sub('year', p.birth, s.started_earliest) >= 18
),
happened AS (
  SELECT stay, CASE
      WHEN death_at IS NOT NULL THEN greatest(death_at, start)
      WHEN died_at_end THEN coalesce(ended_at, CAST(ended_on AS TIMESTAMPTZ))
      WHEN died THEN greatest(death_earliest, start)
      ELSE greatest(death_earliest, start, stop) END AS earliest,  -- was there until it ended
    coalesce(death_at, CASE WHEN died_at_end THEN stop ELSE death_latest END) AS latest
  FROM ward
  UNION ALL
  SELECT w.stay, greatest(coalesce(i.started_at, CAST(i.started_earliest AS TIMESTAMPTZ)), w.start),
    greatest(coalesce(i.started_at, CAST(i.started_earliest + 1 AS TIMESTAMPTZ)), w.start)
  FROM ward w JOIN stays i ON i.patient = w.patient AND i.kind = 'icu' AND i.dated AND (
    coalesce(i.started_at, CAST(i.started_earliest AS TIMESTAMPTZ)) >= w.start
    OR coalesce(i.ended_at, CAST(i.ended_on AS TIMESTAMPTZ)) > w.start)  -- there from the first
  UNION ALL
  SELECT w.stay, a.earliest, a.latest FROM ward w JOIN arrested a USING (patient)
),
onset AS (  -- the first of the three, once the stay has begun
  SELECT w.stay, min(h.earliest) AS onset_earliest, min(h.latest) AS onset_latest
  FROM ward w LEFT JOIN happened h ON h.stay = w.stay AND h.earliest >= w.start
    AND h.latest IS NOT NULL
  GROUP BY w.stay
),
landmark AS (  -- two weeks of them at most; none after the end, or what may be the first of the three
  SELECT w.stay || ' ' || k AS landmark, w.*, CAST(12 * k AS DOUBLE) AS hours_in,
    w.start + to_hours(12 * k) AS at, o.onset_earliest, o.onset_latest
  FROM ward w JOIN onset o USING (stay), covered, range(1, 29) AS step (k)
  WHERE w.start + to_hours(12 * k)
      < least(w.stop, CAST(covered.until + 1 AS TIMESTAMPTZ), o.onset_latest)
    AND coalesce(w.start + to_hours(12 * k) <= o.onset_earliest, true)
),
-- include window.sql
-- include sequence.sql
outcome AS (  -- unknown where records end before the 24 hours do, or a death has no date, or the
  -- first of the three was that day or the next, and no source tells when
  SELECT l.landmark, CASE
      WHEN l.onset_latest <= l.at + INTERVAL 24 HOUR THEN 1.0
      WHEN l.onset_earliest < l.at + INTERVAL 24 HOUR THEN NULL
      WHEN l.at + INTERVAL 24 HOUR > CAST(covered.until + 1 AS TIMESTAMPTZ) THEN NULL
      WHEN (l.died IS NULL OR l.dead_undated)
        AND coalesce(l.at + INTERVAL 24 HOUR > l.stop, true) THEN NULL
      ELSE 0.0 END AS deteriorated
  FROM landmark l, covered
)
SELECT l.patient, l.age, l.sex, l.hours_in,
  max(w.last) FILTER (w.feature = 'heart_rate') AS heart_rate,
  max(w.last) FILTER (w.feature = 'systolic_bp') AS systolic_bp,
  max(w.last) FILTER (w.feature = 'respiratory_rate') AS respiratory_rate,
  max(w.last) FILTER (w.feature = 'temperature') AS temperature,
  max(w.last) FILTER (w.feature = 'spo2') AS spo2,
  max(w.last) FILTER (w.feature = 'fio2') AS fio2,
  max(w.last) FILTER (w.feature = 'gcs_total') AS gcs,
  max(w.highest) FILTER (w.feature = 'heart_rate') AS heart_rate_highest,
  max(w.lowest) FILTER (w.feature = 'systolic_bp') AS systolic_bp_lowest,
  max(w.highest) FILTER (w.feature = 'respiratory_rate') AS respiratory_rate_highest,
  max(w.lowest) FILTER (w.feature = 'spo2') AS spo2_lowest,
  max(w.last) FILTER (w.feature = 'creatinine') AS creatinine,
  max(w.last) FILTER (w.feature = 'bun') AS bun,
  max(w.last) FILTER (w.feature = 'sodium') AS sodium,
  max(w.last) FILTER (w.feature = 'potassium') AS potassium,
  max(w.last) FILTER (w.feature = 'lactate') AS lactate,
  max(w.last) FILTER (w.feature = 'wbc') AS wbc,
  max(w.last) FILTER (w.feature = 'hemoglobin') AS hemoglobin,
  max(w.last) FILTER (w.feature = 'platelets') AS platelets,
  max(w.last) FILTER (w.feature = 'bilirubin') AS bilirubin,
  max(w.last) FILTER (w.feature = 'albumin') AS albumin,
  max(w.last) FILTER (w.feature = 'glucose') AS glucose,
  max(w.last) FILTER (w.feature = 'crp') AS crp,
  any_value(m.groups[1]) AS medicine_1, any_value(m.groups[2]) AS medicine_2,
  any_value(m.groups[3]) AS medicine_3, CAST(coalesce(any_value(m.events), 0) AS DOUBLE) AS medicines,
  any_value(p.groups[1]) AS procedure_1, any_value(p.groups[2]) AS procedure_2,
  CAST(coalesce(any_value(p.events), 0) AS DOUBLE) AS procedures,
  any_value(o.deteriorated) AS deteriorated, CAST(l.at AS DATE) AS day
FROM landmark l
JOIN outcome o USING (landmark)
LEFT JOIN windowed w USING (landmark)
LEFT JOIN sequenced m ON m.landmark = l.landmark AND m.kind = 'medicine'
LEFT JOIN sequenced p ON p.landmark = l.landmark AND p.kind = 'procedure'
GROUP BY l.landmark, l.patient, l.age, l.sex, l.hours_in, l.at
ORDER BY l.patient, l.at
