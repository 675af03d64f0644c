-- Stays in hospital and in intensive care. From `hospital_segment` and `meaning`.
intensive AS (  -- 32037: intensive care
  SELECT 32037 AS concept_id
  UNION SELECT descendant_concept_id FROM concept_ancestor WHERE ancestor_concept_id = 32037
),
icu AS (
  SELECT person_id, visit_occurrence_id AS visit, visit_detail_start_date AS started_on,
    instant(visit_detail_start_datetime) AS started_at, visit_detail_end_date AS ended_on,
    instant(visit_detail_end_datetime) AS ended_at
  FROM visit_detail WHERE visit_detail_concept_id IN (FROM intensive)
  UNION ALL
  SELECT person_id, visit_occurrence_id, visit_start_date, instant(visit_start_datetime),
    visit_end_date, instant(visit_end_datetime)
  FROM visit_occurrence WHERE visit_concept_id IN (FROM intensive)
),
segment AS (
  FROM hospital_segment
  UNION ALL BY NAME
  SELECT visit, CAST(person_id AS VARCHAR) AS patient, 'icu' AS kind,
    started_on AS started_earliest, started_on AS started_latest, started_at,
    i.ended_on, i.ended_at, false AS left_dead
  FROM icu i
),
-- include stays.sql
