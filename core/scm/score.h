/* The formulas of the scores, apart from the networks that feed them: pure functions. */
#ifndef DSCM_CORE_SCM_SCORE_H
#define DSCM_CORE_SCM_SCORE_H

#include <stddef.h>

/* KL(N(ma, e^la) || N(mb, e^lb)), diagonal Gaussians, summed over n dimensions; in nats, >= 0. */
double dscm_gaussian_kl(const float *ma, const float *la, const float *mb, const float *lb,
                        size_t n);

/* Counterfactual Latent Divergence (Sanchez & Tsaftaris 2022, §5): log(exp(minimality) +
 * exp(departure)), in [log 2, 1 + log 2]; lower is better; 1.313 when nothing changed. Both
 * arguments are probabilities. */
double dscm_cld(double minimality, double departure);

/* Codes of reference images by one VAE. */
typedef struct dscm_cld_pool {
    const float *mu, *logvar; /* (count, latent) */
    const int *labels;        /* (count) */
    size_t count, latent;
} dscm_cld_pool;
/* CLD of a pair of codes (2, latent: mu, then log variance) of a factual with class `label` and its
 * counterfactual of class `target`: div = KL(counterfactual || factual), *minimality = P(S_CF <=
 * div), *departure = P(S_F >= div) over the pool's images of the two classes. NaN, all three, where
 * the pool lacks one of them. */
double dscm_cld_of_codes(const dscm_cld_pool *pool, const float *factual,
                         const float *counterfactual, int label, int target, double *minimality,
                         double *departure);

/* IM1 = |x' - AE_target(x')|^2 / (|x' - AE_factual(x')|^2 + 1e-7) and
 * IM2 = |AE_target(x') - AE_all(x')|^2 / (|x'|_1 + 1e-7), pixels on [0,1] (Van Looveren & Klaise
 * 2021). >= 0. */
double dscm_im1(const float *x, const float *by_target, const float *by_factual, size_t n);
double dscm_im2(const float *x, const float *by_target, const float *by_all, size_t n);

/* A light blur: the 3x3 binomial kernel (1 2 1) x (1 2 1) / 16, edges repeated; images (h,w,c). */
void dscm_light_blur(float *out, const float *in, size_t h, size_t w, size_t c);

#endif
