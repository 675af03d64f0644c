people AS (
  SELECT CAST(p.person_id AS VARCHAR) AS patient, p.person_id AS person,
    CASE p.gender_concept_id WHEN 8532 THEN 'female' WHEN 8507 THEN 'male' END AS sex,
    TRY(make_date(p.year_of_birth, coalesce(p.month_of_birth, 7), coalesce(p.day_of_birth, 1)))
      AS birth,
    d.person_id IS NOT NULL AS dead, d.day AS death_earliest, d.day AS death_latest,
    d.moment AS death_at
  FROM person p LEFT JOIN (
    SELECT person_id, min(death_date) AS day, min(instant(death_datetime)) AS moment
    FROM death GROUP BY person_id
  ) d ON d.person_id = p.person_id
),
-- include omop/released.sql
inpatient_visit AS (
  SELECT 9201 AS concept_id UNION SELECT 262
  UNION SELECT descendant_concept_id FROM concept_ancestor WHERE ancestor_concept_id IN (9201, 262)
),
emergency_visit AS (
  SELECT 9203 AS concept_id
  UNION SELECT descendant_concept_id FROM concept_ancestor WHERE ancestor_concept_id = 9203
),
hospital_segment AS (  -- 32220: still a patient, whose end is the release
  SELECT v.visit_occurrence_id AS visit, CAST(v.person_id AS VARCHAR) AS patient,
    CAST(NULL AS BIGINT) AS part_of,
    CASE WHEN v.visit_concept_id IN (FROM inpatient_visit) THEN 'inpatient'
      WHEN v.visit_concept_id IN (FROM emergency_visit) THEN 'emergency' ELSE 'outpatient' END AS kind,
    v.visit_start_date AS started_earliest, v.visit_start_date AS started_latest,
    instant(v.visit_start_datetime) AS started_at,
    CASE WHEN 32220 NOT IN (coalesce(v.visit_type_concept_id, 0),
      coalesce(v.discharged_to_concept_id, 0)) THEN v.visit_end_date END AS ended_on,
    CASE WHEN 32220 NOT IN (coalesce(v.visit_type_concept_id, 0),
      coalesce(v.discharged_to_concept_id, 0)) THEN instant(v.visit_end_datetime) END AS ended_at,
    coalesce(v.discharged_to_concept_id IN (4216643, 44814686), false) AS left_dead,
    CASE WHEN v.discharged_to_concept_id > 0 AND v.discharged_to_concept_id <> 32220
      THEN v.discharged_to_concept_id NOT IN (4216643, 44814686) END AS left_alive,
    coalesce(v.discharged_to_concept_id = 8546, false) AS hospice,
    CASE WHEN v.visit_concept_id = 262 OR v.admitted_from_concept_id = 8870
      OR v.admitted_from_concept_id IN (FROM emergency_visit) THEN 'emergency' END
      AS admission_type,
    CASE WHEN v.visit_concept_id = 262 OR v.admitted_from_concept_id = 8870
        OR v.admitted_from_concept_id IN (FROM emergency_visit) THEN 'emergency_room'
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
      WHEN v.discharged_to_concept_id > 0 THEN 'other' END AS discharged_to
  FROM visit_occurrence v, released
  WHERE coalesce(v.visit_start_date <= released.day, true)
),
covered AS (  -- the last day of which the tables tell
  SELECT least(coalesce(any_value(released.stated), max(greatest(started_earliest, ended_on))),
    current_date) AS until
  FROM released LEFT JOIN hospital_segment ON true
),
