vital (name) AS (  -- value sets of vital signs, which are no laboratory tests
  VALUES ('heart_rate'), ('respiratory_rate'), ('temperature'), ('systolic_bp'), ('diastolic_bp'),
    ('mean_bp'), ('spo2'), ('gcs_eyes'), ('gcs_motor'), ('gcs_verbal'), ('gcs_total'), ('height'),
    ('weight'), ('urine_output')
),
