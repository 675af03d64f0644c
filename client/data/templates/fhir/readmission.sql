-- Hospital stays and what happened in them, out of a FHIR R4 export.
WITH people AS (
  SELECT id AS patient, CASE WHEN gender IN ('female', 'male') THEN gender END AS sex,
    TRY_CAST(left(birth_date || '-07-01', 10) AS DATE) AS birth,
    TRY_CAST(deceased_at AS TIMESTAMP) AS death
  FROM patient
),
visit AS (
  SELECT e.id AS visit, e.patient,
    CASE WHEN e.class IN ('IMP', 'ACUTE', 'NONAC') THEN 'inpatient'
      WHEN e.class = 'EMER' THEN 'emergency' ELSE 'outpatient' END AS kind,
    TRY_CAST(e.started AS TIMESTAMP) AS start, TRY_CAST(e.ended AS TIMESTAMP) AS stop,
    CASE WHEN e.priority = 'EM' OR e.admit_source = 'emd' THEN 'emergency'
      WHEN e.priority IN ('UR', 'A') THEN 'urgent' WHEN e.priority = 'EL' THEN 'elective'
      WHEN e.admit_source = 'born' THEN 'newborn' END AS admission_type,
    CASE e.admit_source WHEN 'emd' THEN 'emergency_room' WHEN 'hosp-trans' THEN 'hospital'
      WHEN 'nursing' THEN 'nursing_facility' WHEN 'gp' THEN 'physician_referral'
      WHEN 'mp' THEN 'physician_referral' WHEN 'outp' THEN 'clinic_referral'
      WHEN 'psych' THEN 'health_care_facility' WHEN 'rehab' THEN 'health_care_facility'
      ELSE CASE WHEN e.admit_source IS NOT NULL THEN 'other' END END AS admission_source,
    CASE e.disposition WHEN 'home' THEN 'home' WHEN 'alt-home' THEN 'home'
      WHEN 'other-hcf' THEN 'short_term_hospital' WHEN 'long' THEN 'long_term_hospital'
      WHEN 'aadvice' THEN 'against_advice' WHEN 'psy' THEN 'psychiatric_hospital'
      WHEN 'rehab' THEN 'rehabilitation' WHEN 'snf' THEN 'nursing_facility'
      ELSE CASE WHEN e.disposition IS NOT NULL THEN 'other' END END AS discharged_to,
    coalesce(e.disposition IN ('exp', 'hosp'), false)
      OR coalesce(p.death <= TRY_CAST(e.ended AS TIMESTAMP), false) AS cannot_return,
    CAST(NULL AS VARCHAR) AS payer,  -- Coverage is not part of a usual export: map your own
    CAST(NULL AS VARCHAR) AS specialty_name
  FROM encounter e LEFT JOIN people p ON p.patient = e.patient
),
product AS (  -- what a request names itself, or the Medication that it refers to
  SELECT id AS request, text, system, code, display FROM medication WHERE product IS NULL
  UNION ALL
  SELECT m.request, p.text, p.system, p.code, p.display
  FROM (SELECT DISTINCT id AS request, product FROM medication) m
  JOIN medication_product p ON p.id = m.product
),
coding AS (
  SELECT system, code FROM condition UNION SELECT system, code FROM observation
  UNION SELECT system, code FROM product
),
meaning AS (  -- the value sets that hold a code, by itself or by what it lies below
  SELECT v.name, c.system || ' ' || c.code AS code_id, max(v.depth) AS depth,
    any_value(v.display) AS display
  FROM (SELECT system, code, unnest(code_keys(system, code)) AS key FROM coding) c
  JOIN value_set v USING (key) GROUP BY v.name, c.system, c.code
),
vital (name) AS (
  VALUES ('heart_rate'), ('respiratory_rate'), ('temperature'), ('systolic_bp'), ('diastolic_bp'),
    ('mean_bp'), ('spo2'), ('gcs_eyes'), ('gcs_motor'), ('gcs_verbal'), ('gcs_total'), ('height'),
    ('weight'), ('urine_output')
),
listed AS (  -- a condition names its encounter, or an encounter lists it
  SELECT id AS entry, encounter AS visit, NULL AS rank FROM condition WHERE encounter IS NOT NULL
  UNION ALL
  SELECT condition, encounter, rank FROM encounter_diagnosis WHERE condition IS NOT NULL
),
diagnosis AS (  -- one row a coding
  SELECT l.visit, c.id AS entry, c.system || ' ' || c.code AS code_id, c.code,
    coalesce(min(l.rank), min(c.rank)) AS rank, min(c.system || c.code) AS place
  FROM listed l JOIN condition c ON c.id = l.entry
  GROUP BY l.visit, c.id, c.system, c.code
),
treated AS (SELECT DISTINCT encounter AS visit, id FROM treatment WHERE encounter IS NOT NULL),
tested AS (  -- one row a coding; vital signs are no laboratory tests
  SELECT o.encounter AS visit, o.id AS entry, m.name, m.display, o.value,
    coalesce(o.code_of_unit, o.unit) AS unit
  FROM observation o LEFT JOIN meaning m ON m.code_id = o.system || ' ' || o.code
  WHERE o.encounter IS NOT NULL AND coalesce(o.laboratory, o.id NOT IN (SELECT x.id
    FROM observation x JOIN meaning n ON n.code_id = x.system || ' ' || x.code
    JOIN vital USING (name)))
),
drug AS (
  SELECT m.patient, m.encounter AS visit, TRY_CAST(m.at_time AS TIMESTAMP) AS at_time,
    m.id AS prescription, any_value(coalesce(p.text, p.display, p.code)) AS product,
    concat_ws(' / ', string_agg(DISTINCT lower(coalesce(p.display, p.text)), ' / '),
      string_agg(DISTINCT substr(n.name, 6), ' / ')) AS ingredients
  FROM (SELECT DISTINCT id, patient, encounter, at_time FROM medication) m
  LEFT JOIN product p ON p.request = m.id
  LEFT JOIN meaning n ON n.code_id = p.system || ' ' || p.code AND starts_with(n.name, 'drug:')
  GROUP BY m.patient, m.encounter, m.at_time, m.id
),
