-- fusion: the first frontal chest radiograph of every patient, and the results nearest to it. A
-- patient whose record lacks them all is there too.
wanted (name, feature, unit, factor) AS (
  VALUES
    ('temperature', 'temperature', 'Cel', 1.0),
    ('heart_rate', 'heart_rate', '/min', 1.0),
    ('respiratory_rate', 'respiratory_rate', '/min', 1.0),
    ('systolic_bp', 'systolic_bp', 'mm[Hg]', 1.0),
    ('spo2', 'spo2', '%', 1.0),
    ('wbc', 'wbc', '10*3/uL', 1.0),
    ('crp', 'crp', 'mg/L', 1.0),
    ('bun', 'bun', 'mg/dL', 1.0),
    ('urea', 'bun', 'mmol/L', 2.8014)
),
pictured AS (  -- a record says no issuer: an ID that two of them gave is nobody's
  SELECT * FROM images
  QUALIFY min(patient) OVER (PARTITION BY patient_id) = max(patient) OVER (PARTITION BY patient_id)
),
identified AS (  -- nor does a picture say whose number it is, where two patients have the same
  SELECT patient, pseudonym(record_number) AS patient_id FROM numbered
  WHERE trim(record_number) <> ''
  QUALIFY min(patient) OVER (PARTITION BY trim(record_number))
    = max(patient) OVER (PARTITION BY trim(record_number))
),
picture AS (
  SELECT p.*, i.image, i.study_date AS day
  FROM pictured i JOIN identified n USING (patient_id) JOIN people p ON p.patient = n.patient
  WHERE i.modality IN ('CR', 'DX') AND i.view_position IN ('PA', 'AP')
  QUALIFY row_number() OVER (PARTITION BY p.patient ORDER BY i.study_date, i.image) = 1
),
known AS MATERIALIZED (  -- a missing unit is the wanted one, where it can be no other
  SELECT o.patient, o.at_time, o.name, w.feature, o.value, w.factor, w.unit AS wanted,
    unit_or(o.unit, w.unit, o.value, o.name, o.display) AS unit
  FROM observed o JOIN wanted w USING (name)
),
measured AS MATERIALIZED (
  SELECT *, in_unit(value, unit, wanted, name) * factor AS amount FROM known
),
nearest AS (  -- a picture's date has no time of day: its noon stands for it
  SELECT c.patient, o.feature,
    min(struct_pack(
      away := abs(date_diff('second', CAST(c.day AS TIMESTAMPTZ) + INTERVAL 12 HOUR, o.at_time)),
      value := o.amount)).value AS value
  FROM picture c JOIN measured o USING (patient)
  WHERE o.at_time >= c.day - 1 AND o.at_time < c.day + 2
    AND plausible(o.amount, o.feature)
  GROUP BY c.patient, o.feature
),
pneumonia AS (
  SELECT DISTINCT c.patient FROM picture c JOIN diagnosed d USING (patient)
  WHERE d.name = 'pneumonia' AND d.day BETWEEN c.day - 1 AND c.day + 3
)
SELECT c.patient, CAST(date_sub('year', c.birth, c.day) AS DOUBLE) AS age, c.sex,
  max(n.value) FILTER (n.feature = 'temperature') AS temperature,
  max(n.value) FILTER (n.feature = 'heart_rate') AS heart_rate,
  max(n.value) FILTER (n.feature = 'respiratory_rate') AS respiratory_rate,
  max(n.value) FILTER (n.feature = 'systolic_bp') AS systolic_bp,
  max(n.value) FILTER (n.feature = 'spo2') AS spo2,
  max(n.value) FILTER (n.feature = 'wbc') AS wbc,
  max(n.value) FILTER (n.feature = 'crp') AS crp,
  max(n.value) FILTER (n.feature = 'bun') AS bun,
  c.image AS radiograph,
  CAST(any_value(d.patient IS NOT NULL) AS DOUBLE) AS pneumonia
FROM picture c
LEFT JOIN nearest n USING (patient)
LEFT JOIN pneumonia d USING (patient)
GROUP BY c.patient, c.birth, c.day, c.sex, c.image
ORDER BY c.patient
