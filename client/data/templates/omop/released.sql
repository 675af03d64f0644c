released AS (  -- until when the records were extracted; what begins later is a booking
  SELECT max(source_release_date) AS stated, least(coalesce(stated, current_date), current_date)
    AS day
  FROM cdm_source
),
