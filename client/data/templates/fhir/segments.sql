people AS (
  SELECT id AS patient, id AS person,
    CASE WHEN gender IN ('female', 'male') THEN gender END AS sex,
    calendar_day(birth_date || CASE length(birth_date) WHEN 4 THEN '-07-01' WHEN 7 THEN '-01'
      ELSE '' END) AS birth,
    deceased_at IS NOT NULL OR coalesce(deceased, false) AS dead,
    earliest_day(deceased_at) AS death_earliest, latest_day(deceased_at) AS death_latest,
    instant(deceased_at) AS death_at
  FROM patient
),
moment AS (  -- an end of what is not over yet is a plan
  SELECT e.* REPLACE (CASE WHEN e.status NOT IN ('arrived', 'triaged', 'in-progress', 'onleave')
    THEN e.ended END AS ended)
  FROM encounter e
),
hospital_segment AS (
  SELECT e.id AS visit, e.patient, e.part_of,
    CASE WHEN e.class IN ('IMP', 'ACUTE', 'NONAC') THEN 'inpatient'
      WHEN e.class = 'EMER' THEN 'emergency' ELSE 'outpatient' END AS kind,
    earliest_day(e.started) AS started_earliest, latest_day(e.started) AS started_latest,
    instant(e.started) AS started_at,
    calendar_day(e.ended) AS ended_on, instant(e.ended) AS ended_at,
    coalesce(e.disposition = 'exp', false) AS left_dead, e.disposition <> 'exp' AS left_alive,
    coalesce(e.disposition = 'hosp', false) AS hospice,
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
      ELSE CASE WHEN e.disposition IS NOT NULL THEN 'other' END END AS discharged_to
  FROM moment e
),
covered AS (  -- the last day of which the export tells
  SELECT least(max(greatest(started_earliest, ended_on)), current_date) AS until
  FROM hospital_segment
),
