-- readmission: the first stay of every patient with diabetes, 1 to 14 days, ended alive.
diabetic AS (
  SELECT DISTINCT m.stay FROM diagnosis d JOIN meaning n USING (code_id) JOIN member m USING (visit)
  WHERE n.name = 'diabetes'
),
index_stay AS (
  SELECT s.*, p.sex, CAST(date_sub('year', p.birth, s.started_earliest) AS DOUBLE) AS age,
    CAST(s.ended_on - s.started_earliest AS DOUBLE) AS days
  FROM stays s JOIN people p USING (patient) JOIN diabetic USING (stay)
  WHERE s.kind = 'inpatient' AND s.dated AND s.ended_on - s.started_earliest BETWEEN 1 AND 14
    AND s.died IS DISTINCT FROM true AND NOT s.hospice
  QUALIFY row_number() OVER (PARTITION BY s.patient
    ORDER BY s.started_earliest, s.started_at, s.stay) = 1
),
planned AS (  -- left out where value sets name admission types, or procedures, as planned
  SELECT m.stay FROM planned_visit JOIN member m USING (visit)
  UNION
  SELECT s.stay FROM stays s JOIN value_set v ON v.name = 'planned_readmission'
    AND v.system = 'admission_type' AND v.code = s.admission_type
),
return AS (  -- stays that count as readmissions, and the days between which each may have begun
  SELECT patient, stay, started_earliest AS earliest, started_latest AS latest, ended_on
  FROM stays WHERE kind = 'inpatient' AND NOT day_case AND stay NOT IN (FROM planned)
),
outcome AS (  -- by calendar days; unknown where the records end before the 30 days do
  SELECT s.stay, CASE
      WHEN bool_or(n.earliest >= s.ended_on AND n.latest <= s.ended_on + 30) THEN 1.0
      WHEN s.died IS NULL OR s.ended_on + 30 > any_value(covered.until) THEN NULL
      WHEN bool_or(n.stay IS NOT NULL AND coalesce(n.latest >= s.ended_on
        AND n.earliest <= s.ended_on + 30, true) AND coalesce(n.ended_on >= s.ended_on, true))
        THEN NULL
      ELSE 0.0 END AS readmitted
  FROM covered, index_stay s LEFT JOIN return n ON n.patient = s.patient AND n.stay <> s.stay
  GROUP BY s.stay, s.ended_on, s.died
),
year_before AS (
  SELECT s.stay, count(*) FILTER (b.kind = 'outpatient') AS outpatient,
    count(*) FILTER (b.kind = 'emergency') AS emergency,
    count(*) FILTER (b.kind = 'inpatient') AS inpatient
  FROM index_stay s JOIN stays b ON b.patient = s.patient
    AND b.started_latest < s.started_earliest
    AND b.started_earliest >= s.started_earliest - INTERVAL 1 YEAR
  GROUP BY s.stay
),
entry AS (  -- a diagnosis by all its codings: the narrowest category that a group names
  SELECT d.visit, d.entry, min(d.rank) AS rank, min(d.place) AS place,
    coalesce(arg_max(d.code, struct_pack(depth := m.depth, code := d.code)), min(d.code)) AS code,
    coalesce(arg_max(substr(m.name, 7), struct_pack(depth := m.depth, name := m.name)), 'other')
      AS grouped
  FROM diagnosis d LEFT JOIN meaning m ON m.code_id = d.code_id AND starts_with(m.name, 'group:')
  GROUP BY d.visit, d.entry
),
grouped AS (
  SELECT stay, list(grouped ORDER BY rank, place, code) AS groups, count(*) AS diagnoses
  FROM (
    SELECT m.stay, c.code, min(c.rank) AS rank, min(c.place) AS place, min(c.grouped) AS grouped
    FROM entry c JOIN member m USING (visit) GROUP BY m.stay, c.code
  ) GROUP BY stay
),
laboratory AS (
  SELECT stay, count(DISTINCT entry) AS tests FROM tested JOIN member USING (visit) GROUP BY stay
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
  SELECT stay, max(value) FILTER (name = 'glucose') AS glucose,
    max(value) FILTER (name = 'hba1c') AS hba1c
  FROM measured JOIN member USING (visit) WHERE plausible(value, name) GROUP BY stay
),
procedure AS (
  SELECT stay, count(*) AS procedures FROM treated JOIN member USING (visit) GROUP BY stay
),
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
during AS (
  SELECT stay, list(DISTINCT name ORDER BY name) AS names
  FROM named JOIN member USING (visit) GROUP BY stay
),
products AS (
  SELECT stay, count(DISTINCT product) AS medications
  FROM prescribed JOIN member USING (visit) GROUP BY stay
),
before AS (
  SELECT s.stay, list(DISTINCT n.name ORDER BY n.name) AS names
  FROM index_stay s JOIN named n ON n.patient = s.patient AND n.at_time < s.started_earliest
    AND n.at_time >= s.started_earliest - 90
  GROUP BY s.stay
),
drugs AS (  -- neither standard says reliably whether a dose went up or down
  SELECT s.stay, coalesce(d.names, []) AS names,
    CASE WHEN coalesce(d.names, []) = coalesce(b.names, d.names, []) THEN 'no' ELSE 'yes' END
      AS changed
  FROM index_stay s LEFT JOIN during d USING (stay) LEFT JOIN before b USING (stay)
)
SELECT s.patient, s.age, s.sex, s.admission_type, s.admission_source, s.discharged_to, a.payer,
  CASE
    WHEN a.specialty_name IS NULL THEN NULL
    WHEN contains(a.specialty_name, 'cardiothoracic') OR contains(a.specialty_name, 'thoracic')
      THEN 'cardiothoracic_surgery'
    WHEN contains(a.specialty_name, 'vascular surg') THEN 'vascular_surgery'
    WHEN contains(a.specialty_name, 'neurosurg') OR contains(a.specialty_name, 'neurological surg')
      THEN 'neurosurgery'
    WHEN contains(a.specialty_name, 'orthop') THEN 'orthopaedics'
    WHEN contains(a.specialty_name, 'obstetric') OR contains(a.specialty_name, 'gynec')
      THEN 'obstetrics_gynaecology'
    WHEN contains(a.specialty_name, 'surg') THEN 'surgery'
    WHEN contains(a.specialty_name, 'emergency') THEN 'emergency'
    WHEN contains(a.specialty_name, 'family') OR contains(a.specialty_name, 'general practice')
      THEN 'family_practice'
    WHEN contains(a.specialty_name, 'cardi') THEN 'cardiology'
    WHEN contains(a.specialty_name, 'nephro') THEN 'nephrology'
    WHEN contains(a.specialty_name, 'radiolog') THEN 'radiology'
    WHEN contains(a.specialty_name, 'pulmon') THEN 'pulmonology'
    WHEN contains(a.specialty_name, 'psychiatr') THEN 'psychiatry'
    WHEN contains(a.specialty_name, 'urolog') THEN 'urology'
    WHEN contains(a.specialty_name, 'gastro') THEN 'gastroenterology'
    WHEN contains(a.specialty_name, 'rehab') THEN 'rehabilitation'
    WHEN contains(a.specialty_name, 'oncolog') THEN 'oncology'
    WHEN contains(a.specialty_name, 'pediatr') THEN 'paediatrics'
    WHEN contains(a.specialty_name, 'neurolog') THEN 'neurology'
    WHEN contains(a.specialty_name, 'endocrin') THEN 'endocrinology'
    WHEN contains(a.specialty_name, 'internal') THEN 'internal_medicine'
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
LEFT JOIN about_visit a ON a.visit = s.stay
JOIN outcome o USING (stay)
JOIN drugs d USING (stay)
LEFT JOIN grouped g USING (stay)
LEFT JOIN laboratory l USING (stay)
LEFT JOIN highest h USING (stay)
LEFT JOIN procedure p USING (stay)
LEFT JOIN products m USING (stay)
LEFT JOIN year_before y USING (stay)
ORDER BY s.patient
