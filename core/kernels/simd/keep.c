typedef int dscm_api_keep;
