-- readmission: the first stay of every patient with diabetes, 1 to 14 days, ended alive.
diabetic AS (
  SELECT DISTINCT d.visit FROM diagnosis d JOIN meaning m ON m.code_id = d.code_id
  WHERE m.name = 'diabetes'
),
index_stay AS (
  SELECT v.*, p.sex, CAST(date_sub('year', p.birth, CAST(v.start AS DATE)) AS DOUBLE) AS age,
    CAST(date_diff('day', CAST(v.start AS DATE), CAST(v.stop AS DATE)) AS DOUBLE) AS days
  FROM visit v JOIN people p USING (patient) JOIN diabetic USING (visit)
  WHERE v.kind = 'inpatient' AND v.stop IS NOT NULL AND NOT v.cannot_return
    AND date_diff('day', CAST(v.start AS DATE), CAST(v.stop AS DATE)) BETWEEN 1 AND 14
  QUALIFY row_number() OVER (PARTITION BY v.patient ORDER BY v.start, v.visit) = 1
),
outcome AS (  -- unknown where the records end before the 30 days do
  SELECT s.visit, CASE
      WHEN bool_or(n.start > s.stop AND n.start <= s.stop + INTERVAL 30 DAY) THEN 1.0
      WHEN s.stop + INTERVAL 30 DAY > (SELECT max(start) FROM visit) THEN NULL
      ELSE 0.0 END AS readmitted
  FROM index_stay s LEFT JOIN visit n ON n.patient = s.patient AND n.kind = 'inpatient'
    AND n.visit <> s.visit
  GROUP BY s.visit, s.stop
),
year_before AS (
  SELECT s.visit, count(*) FILTER (b.kind = 'outpatient') AS outpatient,
    count(*) FILTER (b.kind = 'emergency') AS emergency,
    count(*) FILTER (b.kind = 'inpatient') AS inpatient
  FROM index_stay s JOIN visit b ON b.patient = s.patient AND b.start < s.start
    AND b.start >= s.start - INTERVAL 1 YEAR
  GROUP BY s.visit
),
entry AS (  -- a diagnosis by all its codings: the narrowest category that a group names
  SELECT d.visit, d.entry, min(d.rank) AS rank, min(d.place) AS place,
    coalesce(arg_max(d.code, struct_pack(depth := m.depth, code := d.code)), min(d.code)) AS code,
    coalesce(arg_max(substr(m.name, 7), struct_pack(depth := m.depth, name := m.name)), 'other')
      AS grouped
  FROM diagnosis d LEFT JOIN meaning m ON m.code_id = d.code_id AND starts_with(m.name, 'group:')
  GROUP BY d.visit, d.entry
),
coded AS (
  SELECT visit, code, min(rank) AS rank, min(place) AS place, min(grouped) AS grouped
  FROM entry GROUP BY visit, code
),
grouped AS (
  SELECT visit, list(grouped ORDER BY rank, place, code) AS groups, count(*) AS diagnoses
  FROM coded GROUP BY visit
),
wanted (name, unit) AS (VALUES ('glucose', 'mg/dL'), ('hba1c', '%')),
known AS MATERIALIZED (  -- a missing unit is the wanted one, where it can be no other
  SELECT t.visit, t.name, t.value, w.unit AS wanted,
    unit_or(t.unit, w.unit, t.value, t.name, t.display) AS unit
  FROM tested t JOIN wanted w USING (name)
),
measured AS MATERIALIZED (
  SELECT visit, name, in_unit(value, unit, wanted, name) AS value FROM known
),
highest AS (
  SELECT visit, max(value) FILTER (name = 'glucose') AS glucose,
    max(value) FILTER (name = 'hba1c') AS hba1c
  FROM measured WHERE plausible(value, name) GROUP BY visit
),
laboratory AS (SELECT visit, count(DISTINCT entry) AS tests FROM tested GROUP BY visit),
procedure AS (SELECT visit, count(*) AS procedures FROM treated GROUP BY visit),
ingredient (name) AS (
  VALUES ('metformin'), ('repaglinide'), ('nateglinide'), ('chlorpropamide'), ('glimepiride'),
    ('glipizide'), ('glyburide'), ('tolbutamide'), ('pioglitazone'), ('rosiglitazone'),
    ('acarbose'), ('miglitol'), ('tolazamide'), ('insulin')
),
prescribed AS (
  SELECT d.patient, d.visit, d.at_time, d.product, d.prescription,
    coalesce(list(i.name) FILTER (i.name IS NOT NULL), []) AS names
  FROM drug d LEFT JOIN ingredient i ON contains(d.ingredients, i.name)
    OR (i.name = 'glyburide' AND contains(d.ingredients, 'glibenclamide'))
  GROUP BY d.patient, d.visit, d.at_time, d.product, d.prescription
),
named AS (  -- two in one product are a drug of their own
  SELECT patient, visit, at_time, product, unnest(CASE
      WHEN list_has_all(names, ['glyburide', 'metformin']) THEN ['glyburide_metformin']
      WHEN list_has_all(names, ['glipizide', 'metformin']) THEN ['glipizide_metformin']
      ELSE names END) AS name
  FROM prescribed
),
during AS (SELECT visit, list(DISTINCT name ORDER BY name) AS names FROM named GROUP BY visit),
products AS (SELECT visit, count(DISTINCT product) AS medications FROM prescribed GROUP BY visit),
before AS (
  SELECT s.visit, list(DISTINCT n.name ORDER BY n.name) AS names
  FROM index_stay s JOIN named n ON n.patient = s.patient AND n.at_time < CAST(s.start AS DATE)
    AND n.at_time >= s.start - INTERVAL 90 DAY
  GROUP BY s.visit
),
drugs AS (  -- neither standard says reliably whether a dose went up or down
  SELECT s.visit, coalesce(d.names, []) AS names,
    CASE WHEN coalesce(d.names, []) = coalesce(b.names, d.names, []) THEN 'no' ELSE 'yes' END
      AS changed
  FROM index_stay s LEFT JOIN during d USING (visit) LEFT JOIN before b USING (visit)
)
SELECT s.patient, s.age, s.sex, s.admission_type, s.admission_source, s.discharged_to, s.payer,
  CASE
    WHEN s.specialty_name IS NULL THEN NULL
    WHEN contains(s.specialty_name, 'cardiothoracic') OR contains(s.specialty_name, 'thoracic')
      THEN 'cardiothoracic_surgery'
    WHEN contains(s.specialty_name, 'vascular surg') THEN 'vascular_surgery'
    WHEN contains(s.specialty_name, 'neurosurg') OR contains(s.specialty_name, 'neurological surg')
      THEN 'neurosurgery'
    WHEN contains(s.specialty_name, 'orthop') THEN 'orthopaedics'
    WHEN contains(s.specialty_name, 'obstetric') OR contains(s.specialty_name, 'gynec')
      THEN 'obstetrics_gynaecology'
    WHEN contains(s.specialty_name, 'surg') THEN 'surgery'
    WHEN contains(s.specialty_name, 'emergency') THEN 'emergency'
    WHEN contains(s.specialty_name, 'family') OR contains(s.specialty_name, 'general practice')
      THEN 'family_practice'
    WHEN contains(s.specialty_name, 'cardi') THEN 'cardiology'
    WHEN contains(s.specialty_name, 'nephro') THEN 'nephrology'
    WHEN contains(s.specialty_name, 'radiolog') THEN 'radiology'
    WHEN contains(s.specialty_name, 'pulmon') THEN 'pulmonology'
    WHEN contains(s.specialty_name, 'psychiatr') THEN 'psychiatry'
    WHEN contains(s.specialty_name, 'urolog') THEN 'urology'
    WHEN contains(s.specialty_name, 'gastro') THEN 'gastroenterology'
    WHEN contains(s.specialty_name, 'rehab') THEN 'rehabilitation'
    WHEN contains(s.specialty_name, 'oncolog') THEN 'oncology'
    WHEN contains(s.specialty_name, 'pediatr') THEN 'paediatrics'
    WHEN contains(s.specialty_name, 'neurolog') THEN 'neurology'
    WHEN contains(s.specialty_name, 'endocrin') THEN 'endocrinology'
    WHEN contains(s.specialty_name, 'internal') THEN 'internal_medicine'
    ELSE 'other' END AS specialty,
  g.groups[1] AS diagnosis_1, g.groups[2] AS diagnosis_2, g.groups[3] AS diagnosis_3,
  s.days AS length_of_stay,
  coalesce(l.tests, 0) AS lab_procedures,
  coalesce(p.procedures, 0) AS procedures,
  coalesce(m.medications, 0) AS medications,
  coalesce(g.diagnoses, 0) AS diagnoses,
  coalesce(y.outpatient, 0) AS outpatient_visits,
  coalesce(y.emergency, 0) AS emergency_visits,
  coalesce(y.inpatient, 0) AS inpatient_stays,
  h.glucose, h.hba1c,
  CASE WHEN list_contains(d.names, 'metformin') THEN 'steady' ELSE 'no' END AS metformin,
  CASE WHEN list_contains(d.names, 'repaglinide') THEN 'steady' ELSE 'no' END AS repaglinide,
  CASE WHEN list_contains(d.names, 'nateglinide') THEN 'steady' ELSE 'no' END AS nateglinide,
  CASE WHEN list_contains(d.names, 'chlorpropamide') THEN 'steady' ELSE 'no' END AS chlorpropamide,
  CASE WHEN list_contains(d.names, 'glimepiride') THEN 'steady' ELSE 'no' END AS glimepiride,
  CASE WHEN list_contains(d.names, 'glipizide') THEN 'steady' ELSE 'no' END AS glipizide,
  CASE WHEN list_contains(d.names, 'glyburide') THEN 'steady' ELSE 'no' END AS glyburide,
  CASE WHEN list_contains(d.names, 'tolbutamide') THEN 'steady' ELSE 'no' END AS tolbutamide,
  CASE WHEN list_contains(d.names, 'pioglitazone') THEN 'steady' ELSE 'no' END AS pioglitazone,
  CASE WHEN list_contains(d.names, 'rosiglitazone') THEN 'steady' ELSE 'no' END AS rosiglitazone,
  CASE WHEN list_contains(d.names, 'acarbose') THEN 'steady' ELSE 'no' END AS acarbose,
  CASE WHEN list_contains(d.names, 'miglitol') THEN 'steady' ELSE 'no' END AS miglitol,
  CASE WHEN list_contains(d.names, 'tolazamide') THEN 'steady' ELSE 'no' END AS tolazamide,
  CASE WHEN list_contains(d.names, 'insulin') THEN 'steady' ELSE 'no' END AS insulin,
  CASE WHEN list_contains(d.names, 'glyburide_metformin') THEN 'steady' ELSE 'no' END
    AS glyburide_metformin,
  CASE WHEN list_contains(d.names, 'glipizide_metformin') THEN 'steady' ELSE 'no' END
    AS glipizide_metformin,
  d.changed AS drugs_changed,
  CASE WHEN len(d.names) > 0 THEN 'yes' ELSE 'no' END AS diabetes_drug,
  o.readmitted
FROM index_stay s
JOIN outcome o USING (visit)
JOIN drugs d USING (visit)
LEFT JOIN grouped g USING (visit)
LEFT JOIN laboratory l USING (visit)
LEFT JOIN highest h USING (visit)
LEFT JOIN procedure p USING (visit)
LEFT JOIN products m USING (visit)
LEFT JOIN year_before y USING (visit)
ORDER BY s.patient
