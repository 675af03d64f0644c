-- Hospital stays and what happened in them, out of an OMOP CDM 5.4.
WITH people AS (
  SELECT person_id AS person, CAST(person_id AS VARCHAR) AS patient,
    CASE gender_concept_id WHEN 8532 THEN 'female' WHEN 8507 THEN 'male' END AS sex,
    make_date(year_of_birth, coalesce(month_of_birth, 7), coalesce(day_of_birth, 1)) AS birth
  FROM person
),
payer AS (  -- Source of Payment Typology (SOPT)
  SELECT p.person_id, p.payer_plan_period_start_date AS since,
    p.payer_plan_period_end_date AS until,
    CASE WHEN c.concept_code LIKE '1%' THEN 'medicare' WHEN c.concept_code LIKE '2%' THEN 'medicaid'
      WHEN c.concept_code LIKE '5%' OR c.concept_code LIKE '6%' THEN 'commercial'
      WHEN c.concept_code LIKE '81%' THEN 'self_pay' ELSE 'other' END AS payer
  FROM payer_plan_period p
  JOIN concept c ON c.concept_id = p.payer_concept_id AND c.vocabulary_id = 'SOPT'
),
place AS (  -- 9201: inpatient, 262: emergency room and inpatient, 9203: emergency room
  SELECT ancestor_concept_id AS kind, descendant_concept_id AS concept_id FROM concept_ancestor
  WHERE ancestor_concept_id IN (9201, 262, 9203)
  UNION VALUES (9201, 9201), (262, 262), (9203, 9203)
),
visit AS (
  SELECT v.visit_occurrence_id AS visit, CAST(v.person_id AS VARCHAR) AS patient,
    CASE WHEN v.visit_concept_id IN (SELECT concept_id FROM place WHERE kind IN (9201, 262))
        THEN 'inpatient'
      WHEN v.visit_concept_id IN (SELECT concept_id FROM place WHERE kind = 9203)
        THEN 'emergency' ELSE 'outpatient' END AS kind,
    coalesce(v.visit_start_datetime, CAST(v.visit_start_date AS TIMESTAMP)) AS start,
    coalesce(v.visit_end_datetime, CAST(v.visit_end_date AS TIMESTAMP)) AS stop,
    CASE WHEN v.visit_concept_id = 262 OR v.admitted_from_concept_id IN (8870, 9203)
      THEN 'emergency' END AS admission_type,
    CASE WHEN v.visit_concept_id = 262 OR v.admitted_from_concept_id IN (8870, 9203)
        THEN 'emergency_room'
      WHEN v.admitted_from_concept_id IN (8717, 9201) THEN 'hospital'
      WHEN v.admitted_from_concept_id IN (8863, 8676) THEN 'nursing_facility'
      WHEN v.admitted_from_concept_id = 8940 THEN 'physician_referral'
      WHEN v.admitted_from_concept_id = 9202 THEN 'clinic_referral'
      WHEN v.admitted_from_concept_id > 0 THEN 'other' END AS admission_source,
    CASE WHEN v.discharged_to_concept_id IN (8536, 581476) THEN 'home'
      WHEN v.discharged_to_concept_id = 38004519 THEN 'home_health'
      WHEN v.discharged_to_concept_id IN (8717, 9201) THEN 'short_term_hospital'
      WHEN v.discharged_to_concept_id IN (8863, 8676) THEN 'nursing_facility'
      WHEN v.discharged_to_concept_id = 8827 THEN 'intermediate_care'
      WHEN v.discharged_to_concept_id = 8920 THEN 'rehabilitation'
      WHEN v.discharged_to_concept_id = 8970 THEN 'long_term_hospital'
      WHEN v.discharged_to_concept_id = 8971 THEN 'psychiatric_hospital'
      WHEN v.discharged_to_concept_id = 4021968 THEN 'against_advice'
      WHEN v.discharged_to_concept_id > 0 THEN 'other' END AS discharged_to,
    coalesce(v.discharged_to_concept_id IN (4216643, 44814686, 8546), false)  -- dead, hospice
      OR coalesce(d.death_date <= v.visit_end_date, false) AS cannot_return,
    (SELECT min(payer.payer) FROM payer WHERE payer.person_id = v.person_id
      AND v.visit_start_date BETWEEN payer.since AND payer.until) AS payer,
    lower(s.concept_name) AS specialty_name
  FROM visit_occurrence v
  LEFT JOIN (SELECT person_id, min(death_date) AS death_date FROM death GROUP BY person_id) d
    ON d.person_id = v.person_id
  LEFT JOIN provider r ON r.provider_id = v.provider_id
  LEFT JOIN concept s ON s.concept_id = r.specialty_concept_id AND s.concept_id > 0
),
used AS (
  SELECT condition_concept_id AS concept_id FROM condition_occurrence
  UNION SELECT condition_source_concept_id FROM condition_occurrence
  UNION SELECT measurement_concept_id FROM measurement
),
meaning AS (  -- the value sets that hold a concept: by its code, or by concept_ancestor
  SELECT name, concept_id AS code_id, max(depth) AS depth, any_value(concept_name) AS display
  FROM (
    SELECT v.name, c.concept_id, v.depth, c.concept_name
    FROM (SELECT concept_id, concept_name, unnest(code_keys(vocabulary_id, concept_code)) AS key
      FROM concept WHERE concept_id IN (FROM used)) c JOIN value_set v USING (key)
    UNION ALL
    SELECT v.name, c.concept_id, v.depth, c.concept_name
    FROM value_set v
    JOIN concept root ON root.vocabulary_id = v.vocabulary AND root.concept_code = v.code
    JOIN concept_ancestor a ON a.ancestor_concept_id = root.concept_id
    JOIN concept c ON c.concept_id = a.descendant_concept_id
  ) GROUP BY name, concept_id
),
vital (name) AS (
  VALUES ('heart_rate'), ('respiratory_rate'), ('temperature'), ('systolic_bp'), ('diastolic_bp'),
    ('mean_bp'), ('spo2'), ('gcs_eyes'), ('gcs_motor'), ('gcs_verbal'), ('gcs_total'), ('height'),
    ('weight'), ('urine_output')
),
diagnosis AS (  -- by the standard concept and by the one it was entered with; 32902: primary
  SELECT c.visit_occurrence_id AS visit, c.condition_occurrence_id AS entry, x.code_id,
    coalesce(o.concept_code, CAST(c.condition_concept_id AS VARCHAR)) AS code,
    CASE WHEN c.condition_status_concept_id = 32902 THEN 1 ELSE 2 END AS rank,
    c.condition_occurrence_id AS place
  FROM condition_occurrence c
  LEFT JOIN concept o ON o.concept_id = c.condition_source_concept_id AND o.concept_id > 0,
  unnest([c.condition_source_concept_id, c.condition_concept_id]) x (code_id)
  WHERE c.visit_occurrence_id IS NOT NULL
),
treated AS (
  SELECT visit_occurrence_id AS visit FROM procedure_occurrence
  WHERE visit_occurrence_id IS NOT NULL
),
tested AS (
  SELECT m.visit_occurrence_id AS visit, m.entry, n.name, n.display, m.value_as_number AS value,
    coalesce(u.concept_code, m.unit_source_value) AS unit
  FROM (SELECT *, row_number() OVER () AS entry FROM measurement) m
  LEFT JOIN meaning n ON n.code_id = m.measurement_concept_id
  LEFT JOIN concept u ON u.concept_id = m.unit_concept_id AND u.vocabulary_id = 'UCUM'
  WHERE m.visit_occurrence_id IS NOT NULL  -- vital signs are no laboratory tests
    AND m.measurement_concept_id NOT IN (SELECT code_id FROM meaning JOIN vital USING (name))
),
drug AS (
  SELECT CAST(e.person_id AS VARCHAR) AS patient, e.visit_occurrence_id AS visit,
    CAST(e.drug_exposure_start_date AS TIMESTAMP) AS at_time, e.drug_exposure_id AS prescription,
    CAST(e.drug_concept_id AS VARCHAR) AS product, lower(i.concept_name) AS ingredients
  FROM drug_exposure e
  LEFT JOIN (
    SELECT a.descendant_concept_id, string_agg(DISTINCT c.concept_name, ' / ') AS concept_name
    FROM concept_ancestor a JOIN concept c ON c.concept_id = a.ancestor_concept_id
    WHERE c.vocabulary_id = 'RxNorm' AND c.concept_class_id = 'Ingredient'
    GROUP BY a.descendant_concept_id
  ) i ON i.descendant_concept_id = e.drug_concept_id
),
