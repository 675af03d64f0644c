-- icu_mortality: APACHE's variables, each at its worst within 24 hours of admission.
wanted (name, feature, unit, factor, point) AS (
  -- Worst is furthest from the point (Knaus et al. 1991); NULL: the highest. Urea in mmol/L is
  -- 2.8014 times as much nitrogen in mg/dL.
  VALUES
    ('heart_rate', 'heart_rate', '/min', 1.0, 75.0),
    ('mean_bp', 'mean_bp', 'mm[Hg]', 1.0, 90.0),
    ('temperature', 'temperature', 'Cel', 1.0, 38.0),
    ('respiratory_rate', 'respiratory_rate', '/min', 1.0, 19.0),
    ('hematocrit', 'hematocrit', '%', 1.0, 45.5),
    ('wbc', 'wbc', '10*3/uL', 1.0, 11.5),
    ('creatinine', 'creatinine', 'mg/dL', 1.0, 1.0),
    ('bun', 'bun', 'mg/dL', 1.0, NULL),
    ('urea', 'bun', 'mmol/L', 2.8014, NULL),
    ('sodium', 'sodium', 'mmol/L', 1.0, 145.5),
    ('albumin', 'albumin', 'g/dL', 1.0, 3.5),
    ('bilirubin', 'bilirubin', 'mg/dL', 1.0, NULL),
    ('glucose', 'glucose', 'mg/dL', 1.0, 130.0),
    ('ph', 'ph', '[pH]', 1.0, 7.4),
    ('pao2', 'pao2', 'mm[Hg]', 1.0, NULL),
    ('paco2', 'paco2', 'mm[Hg]', 1.0, NULL),
    ('fio2', 'fio2', '%', 1.0, NULL),
    ('urine_output', 'urine_output', 'mL', 1.0, NULL),
    ('gcs_eyes', 'gcs_eyes', '{score}', 1.0, NULL),
    ('gcs_motor', 'gcs_motor', '{score}', 1.0, NULL),
    ('gcs_verbal', 'gcs_verbal', '{score}', 1.0, NULL)
),
known AS MATERIALIZED (  -- a missing unit is the wanted one, where it can be no other
  SELECT o.patient, o.at_time, o.name, w.feature, o.value, w.factor, w.unit AS wanted, w.point,
    unit_or(o.unit, w.unit, o.value, o.name, o.display) AS unit
  FROM observed o JOIN wanted w USING (name)
),
measured AS MATERIALIZED (
  SELECT s.patient, o.at_time, o.feature, o.point,
    in_unit(o.value, o.unit, o.wanted, o.name) * o.factor AS value
  FROM known o JOIN stay s USING (patient)
  WHERE o.at_time >= s.start AND o.at_time < s.start + INTERVAL 24 HOUR
),
extremes AS (
  SELECT patient, feature, min(value) AS lowest, max(value) AS highest, sum(value) AS total,
    max(struct_pack(away := abs(value - point), value := value)).value AS worst
  FROM measured WHERE plausible(value, feature) GROUP BY patient, feature
),
gas AS (  -- the blood gas with the least oxygen, and the latest inspired oxygen before it
  SELECT patient, at_time, value AS pao2 FROM measured WHERE feature = 'pao2' AND plausible(value, 'pao2')
  QUALIFY row_number() OVER (PARTITION BY patient ORDER BY value, at_time) = 1
),
with_gas AS (
  SELECT g.patient, g.pao2,
    max(m.value) FILTER (m.feature = 'paco2' AND m.at_time = g.at_time AND plausible(m.value, 'paco2'))
      AS paco2,
    arg_max(m.value, struct_pack(at_time := m.at_time, value := m.value)) FILTER (m.feature = 'fio2'
      AND m.at_time <= g.at_time AND plausible(m.value, 'fio2')) AS fio2
  FROM gas g JOIN measured m USING (patient) GROUP BY g.patient, g.pao2
),
chronic AS (  -- known by the end of the first day
  SELECT d.patient, list(DISTINCT d.name) AS names
  FROM diagnosed d JOIN stay s USING (patient)
  WHERE d.at_time < s.start + INTERVAL 24 HOUR GROUP BY d.patient
),
ventilation AS (
  SELECT DISTINCT t.patient FROM treated t JOIN stay s USING (patient)
  WHERE t.name = 'mechanical_ventilation'
    AND t.at_time >= s.day AND t.at_time < s.start + INTERVAL 24 HOUR
)
SELECT s.patient, s.age, s.sex,
  max(e.worst) FILTER (e.feature = 'heart_rate') AS heart_rate,
  max(e.worst) FILTER (e.feature = 'mean_bp') AS mean_bp,
  max(e.worst) FILTER (e.feature = 'temperature') AS temperature,
  max(e.worst) FILTER (e.feature = 'respiratory_rate') AS respiratory_rate,
  max(e.worst) FILTER (e.feature = 'hematocrit') AS hematocrit,
  max(e.worst) FILTER (e.feature = 'wbc') AS wbc,
  max(e.worst) FILTER (e.feature = 'creatinine') AS creatinine,
  max(e.highest) FILTER (e.feature = 'bun') AS bun,
  max(e.worst) FILTER (e.feature = 'sodium') AS sodium,
  max(e.worst) FILTER (e.feature = 'albumin') AS albumin,
  max(e.highest) FILTER (e.feature = 'bilirubin') AS bilirubin,
  max(e.worst) FILTER (e.feature = 'glucose') AS glucose,
  max(e.worst) FILTER (e.feature = 'ph') AS ph,
  any_value(g.pao2) AS pao2,
  any_value(g.paco2) AS paco2,
  any_value(g.fio2) AS fio2,
  max(e.total) FILTER (e.feature = 'urine_output') AS urine_output,
  max(e.lowest) FILTER (e.feature = 'gcs_eyes') AS gcs_eyes,
  max(e.lowest) FILTER (e.feature = 'gcs_motor') AS gcs_motor,
  max(e.lowest) FILTER (e.feature = 'gcs_verbal') AS gcs_verbal,
  CAST(any_value(v.patient IS NOT NULL) AS INTEGER) AS ventilated,
  CAST(NULL AS VARCHAR) AS elective_surgery,  -- in no field of either standard: map your own
  CAST(any_value(coalesce(list_contains(c.names, 'hepatic_failure'), false)) AS INTEGER)
    AS hepatic_failure,
  CAST(any_value(coalesce(list_contains(c.names, 'cirrhosis'), false)) AS INTEGER) AS cirrhosis,
  CAST(any_value(coalesce(list_contains(c.names, 'metastatic_cancer'), false)) AS INTEGER)
    AS metastatic_cancer,
  CAST(any_value(coalesce(list_contains(c.names, 'lymphoma'), false)) AS INTEGER) AS lymphoma,
  CAST(any_value(coalesce(list_contains(c.names, 'leukemia'), false)) AS INTEGER) AS leukemia,
  CAST(any_value(coalesce(list_contains(c.names, 'immunosuppression'), false)) AS INTEGER)
    AS immunosuppression,
  CAST(any_value(coalesce(list_contains(c.names, 'aids'), false)) AS INTEGER) AS aids,
  any_value(s.died_in_hospital) AS died
FROM stay s
LEFT JOIN extremes e USING (patient)
LEFT JOIN with_gas g USING (patient)
LEFT JOIN chronic c USING (patient)
LEFT JOIN ventilation v USING (patient)
GROUP BY s.patient, s.age, s.sex
ORDER BY s.patient
