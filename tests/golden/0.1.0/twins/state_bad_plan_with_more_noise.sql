UPDATE plans SET event = replace(event, '"noise_multiplier":', '"noise_multiplier":9') WHERE study = '86552e4a48306ba3cdcf2e9472e50bb46109005230fec6326c0d8f2072201f14';
