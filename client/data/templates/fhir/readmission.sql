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
diagnosis AS (
  SELECT c.encounter AS visit, CASE WHEN contains(c.system, 'icd-10') THEN c.code END AS icd10,
    c.code, c.rank, c.system || c.code AS place,
    EXISTS (SELECT 1 FROM value_set v WHERE v.name = 'diabetes' AND ((v.system = c.system
      AND v.code = c.code) OR (v.vocabulary = 'ICD10' AND contains(c.system, 'icd-10')
      AND starts_with(c.code, v.code)))) AS diabetes
  FROM condition c WHERE c.encounter IS NOT NULL
),
treated AS (
  SELECT DISTINCT t.encounter AS visit, t.at_time, t.system, t.code FROM treatment t
  WHERE t.encounter IS NOT NULL
),
tested AS (
  SELECT o.encounter AS visit, v.name, o.value, coalesce(o.code_of_unit, o.unit) AS unit
  FROM observation o
  LEFT JOIN value_set v ON v.system = o.system AND v.code = o.code
    AND v.name IN ('glucose', 'hba1c')
  WHERE o.encounter IS NOT NULL
),
drug AS (
  SELECT m.patient, m.encounter AS visit, TRY_CAST(m.at_time AS TIMESTAMP) AS at_time,
    m.id AS prescription, any_value(coalesce(m.text, m.display, m.code)) AS product,
    string_agg(DISTINCT lower(coalesce(m.display, m.text)), ' / ') AS ingredients
  FROM medication m GROUP BY m.patient, m.encounter, m.at_time, m.id
),
