/* Whole networks of the UNet and encoder family: gradients against differences over the flags, and
 * everything that must not change a result: mode, batch, conditions, team, instruction set. */
#include "core/models/net.h"
#include "tests/core/nn/gradcheck.h"

typedef struct flags {
    const char *what;
    dscm_arch arch;
    size_t size, channels, levels, blocks, attention, heads, head_channels, classes;
    bool scale_shift, updown, conv_resample, new_order;
    dscm_pool pool;
} flags;

static const flags cases[] = {
    {"plain unet", DSCM_ARCH_UNET, 8, 1, 2, 1, 0, 1, 0, 0, true, false, true, false, 0},
    {"rgb unet, labels, attention", DSCM_ARCH_UNET, 8, 3, 2, 1, 4, 2, 0, 5, true, true, true, true,
     0},
    {"unet without scale-shift", DSCM_ARCH_UNET, 8, 1, 2, 2, 8, 1, 16, 0, false, false, false,
     false, 0},
    {"encoder, attention pool", DSCM_ARCH_ENCODER, 7, 1, 2, 1, 0, 1, 32, 0, true, true, true, false,
     DSCM_POOL_ATTENTION},
    {"encoder, adaptive pool", DSCM_ARCH_ENCODER, 6, 3, 2, 1, 6, 4, 0, 0, false, false, true, true,
     DSCM_POOL_ADAPTIVE},
    {"encoder, spatial pool", DSCM_ARCH_ENCODER, 7, 1, 2, 1, 0, 1, 0, 0, true, false, false, false,
     DSCM_POOL_SPATIAL},
};

static dscm_net *net_of(const flags *f)
{
    dscm_error err = {0};
    dscm_net_config c = dscm_net_config_defaults(f->arch);
    c.image_size = f->size;
    c.in_channels = c.out_channels = f->channels;
    if (f->arch == DSCM_ARCH_ENCODER) c.out_channels = 4;
    c.levels = f->levels;
    c.num_res_blocks = f->blocks;
    c.attention_count = f->attention ? 1 : 0;
    c.attention_resolutions[0] = f->attention;
    c.num_heads = f->heads;
    c.num_head_channels = f->head_channels;
    c.num_classes = f->classes;
    c.use_scale_shift_norm = f->scale_shift;
    c.resblock_updown = f->updown;
    c.conv_resample = f->conv_resample;
    c.new_attention_order = f->new_order;
    c.pool = f->pool;
    dscm_net *net = NULL;
    if (dscm_net_open(&net, &c, &err) != DSCM_OK) {
        TEST_FAIL_("%s: %s", f->what, err.message);
        abort();
    }
    return net;
}

/* Labels and steps by item, so that rows of a batch differ. */
static void rig_net(rig *r, dscm_net *net, size_t batch, size_t conditions, dscm_exec_mode mode,
                    dscm_isa isa, dscm_team *team)
{
    *r = (rig){.graph = net->graph,
               .borrowed = true,
               .table = &net->params,
               .in = {net->x},
               .has_grad = {true},
               .inputs = 1,
               .out = net->out,
               .every = 9,
               .batch = batch,
               .conditions = conditions};
    rig_open(r, isa, mode, team);
    for (size_t b = 0; b < conditions; b++) {
        dscm_exec_data(r->exec, net->t)[b] = (float)(37 + 400 * b);
        if (net->label >= 0) dscm_exec_data(r->exec, net->label)[b] = (float)(b + 1);
    }
    rig_forward(r);
}

static float *copy_of(const float *from, size_t count)
{
    float *to = rig_floats(count);
    return memcpy(to, from, count * sizeof *to);
}

/* Largest difference over largest value. */
static double gap(const float *a, const float *b, size_t count)
{
    double most = 0, size = 1e-30;
    for (size_t i = 0; i < count; i++) {
        if (!isfinite(a[i]) || !isfinite(b[i])) return INFINITY;
        most = fmax(most, fabs((double)a[i] - (double)b[i]));
        size = fmax(size, fabs((double)b[i]));
    }
    return most / size;
}

static void gradients(void)
{
    for (size_t i = 0; i < TEST_COUNT(cases); i++) {
        rig r;
        dscm_net *net = net_of(&cases[i]);
        rig_net(&r, net, 2, 2, DSCM_EXEC_PARAM_GRAD, dscm_cpu_best_isa(), NULL);
        rig_check(&r, cases[i].what);
        rig_close(&r);
        dscm_net_free(net);
    }
}

/* Buffers are shared differently in each mode; the values must not be. */
static void modes_agree(void)
{
    for (size_t i = 0; i < TEST_COUNT(cases); i++) {
        dscm_net *net = net_of(&cases[i]);
        rig r[3];
        for (int mode = 0; mode < 3; mode++)
            rig_net(&r[mode], net, 2, 2, (dscm_exec_mode)mode, dscm_cpu_best_isa(), NULL);
        size_t count = rig_count(&r[0], net->out, 2), pixels = rig_count(&r[0], net->x, 2);
        for (int mode = 1; mode < 3; mode++) {
            CHECK_NEAR(gap(dscm_exec_data(r[mode].exec, net->out),
                           dscm_exec_data(r[0].exec, net->out), count),
                       0, 0);
            rig_backward(&r[mode]);
        }
        CHECK_NEAR(
            gap(dscm_exec_grad(r[1].exec, net->x), dscm_exec_grad(r[2].exec, net->x), pixels), 0,
            0);
        CHECK(dscm_exec_bytes(r[0].exec) <= dscm_exec_bytes(r[1].exec));
        CHECK(dscm_exec_bytes(r[1].exec) < dscm_exec_bytes(r[2].exec));
        for (int mode = 0; mode < 3; mode++) rig_close(&r[mode]);
        dscm_net_free(net);
    }
}

/* Poisoned memory between runs shows a read of anything that this run did not write. */
static void reruns_agree(void)
{
    for (size_t i = 0; i < TEST_COUNT(cases); i++) {
        dscm_net *net = net_of(&cases[i]);
        rig r;
        rig_net(&r, net, 3, 3, DSCM_EXEC_INPUT_GRAD, dscm_cpu_best_isa(), NULL);
        rig_backward(&r);
        size_t count = rig_count(&r, net->out, 3), pixels = rig_count(&r, net->x, 3);
        float *out = copy_of(dscm_exec_data(r.exec, net->out), count);
        float *grad = copy_of(dscm_exec_grad(r.exec, net->x), pixels);
        float *x = copy_of(dscm_exec_data(r.exec, net->x), pixels);
        for (size_t k = 0; k < pixels; k++) dscm_exec_data(r.exec, net->x)[k] = NAN;
        rig_backward(&r);
        memcpy(dscm_exec_data(r.exec, net->x), x, pixels * sizeof *x);
        rig_backward(&r);
        CHECK_NEAR(gap(dscm_exec_data(r.exec, net->out), out, count), 0, 0);
        CHECK_NEAR(gap(dscm_exec_grad(r.exec, net->x), grad, pixels), 0, 0);
        dscm_free(x);
        dscm_free(grad);
        dscm_free(out);
        rig_close(&r);
        dscm_net_free(net);
    }
}

/* An image gets the same result alone, in a batch, and with a shared or an own condition row. */
static void batches_agree(void)
{
    for (size_t i = 0; i < TEST_COUNT(cases); i++) {
        dscm_net *net = net_of(&cases[i]);
        rig many, one;
        rig_net(&many, net, 3, 3, DSCM_EXEC_INPUT_GRAD, dscm_cpu_best_isa(), NULL);
        rig_net(&one, net, 1, 1, DSCM_EXEC_INPUT_GRAD, dscm_cpu_best_isa(), NULL);
        rig_backward(&many);
        size_t out = rig_count(&one, net->out, 1), image = rig_count(&one, net->x, 1);
        for (size_t b = 0; b < 3; b++) {
            memcpy(dscm_exec_data(one.exec, net->x), dscm_exec_data(many.exec, net->x) + b * image,
                   image * sizeof(float));
            memcpy(one.weight, many.weight + b * out, out * sizeof(float));
            dscm_exec_data(one.exec, net->t)[0] = dscm_exec_data(many.exec, net->t)[b];
            if (net->label >= 0)
                dscm_exec_data(one.exec, net->label)[0] = dscm_exec_data(many.exec, net->label)[b];
            rig_backward(&one);
            CHECK_NEAR(gap(dscm_exec_data(many.exec, net->out) + b * out,
                           dscm_exec_data(one.exec, net->out), out),
                       0, 2e-5);
            CHECK_NEAR(gap(dscm_exec_grad(many.exec, net->x) + b * image,
                           dscm_exec_grad(one.exec, net->x), image),
                       0, 2e-4);
        }
        for (size_t b = 1; b < 3; b++) {
            dscm_exec_data(many.exec, net->t)[b] = dscm_exec_data(many.exec, net->t)[0];
            if (net->label >= 0)
                dscm_exec_data(many.exec, net->label)[b] = dscm_exec_data(many.exec, net->label)[0];
        }
        rig_forward(&many);
        float *own = copy_of(dscm_exec_data(many.exec, net->out), 3 * out);
        many.conditions = 1;
        rig_forward(&many);
        CHECK_NEAR(gap(dscm_exec_data(many.exec, net->out), own, 3 * out), 0, 2e-5);
        dscm_free(own);
        rig_close(&one);
        rig_close(&many);
        dscm_net_free(net);
    }
}

static void teams_agree(void)
{
    dscm_team *team = NULL;
    REQUIRE(dscm_team_open(&team, 3, NULL) == DSCM_OK);
    for (size_t i = 0; i < TEST_COUNT(cases); i++) {
        dscm_net *net = net_of(&cases[i]);
        rig alone, shared;
        rig_net(&alone, net, 2, 1, DSCM_EXEC_PARAM_GRAD, dscm_cpu_best_isa(), NULL);
        rig_net(&shared, net, 2, 1, DSCM_EXEC_PARAM_GRAD, dscm_cpu_best_isa(), team);
        dscm_weights_update(shared.weights, shared.values, team);
        dscm_exec_zero_grads(alone.exec);
        dscm_exec_zero_grads(shared.exec);
        rig_backward(&alone);
        rig_backward(&shared);
        CHECK_NEAR(gap(dscm_exec_data(shared.exec, net->out), dscm_exec_data(alone.exec, net->out),
                       rig_count(&alone, net->out, 2)),
                   0, 0);
        CHECK_NEAR(gap(dscm_exec_grad(shared.exec, net->x), dscm_exec_grad(alone.exec, net->x),
                       rig_count(&alone, net->x, 2)),
                   0, 0);
        CHECK_NEAR(gap(dscm_exec_param_grads(shared.exec), dscm_exec_param_grads(alone.exec),
                       net->params.floats),
                   0, 1e-6);
        rig_close(&alone);
        rig_close(&shared);
        dscm_net_free(net);
    }
    dscm_team_free(team);
}

static void instruction_sets_agree(void)
{
    for (size_t i = 0; i < TEST_COUNT(cases); i++)
        for (int isa = DSCM_ISA_BASE + 1; isa <= (int)dscm_cpu_best_isa(); isa++) {
            dscm_net *net = net_of(&cases[i]);
            rig base, other;
            rig_net(&base, net, 2, 2, DSCM_EXEC_PARAM_GRAD, DSCM_ISA_BASE, NULL);
            rig_net(&other, net, 2, 2, DSCM_EXEC_PARAM_GRAD, (dscm_isa)isa, NULL);
            rig_backward(&base);
            rig_backward(&other);
            CHECK_NEAR(gap(dscm_exec_data(other.exec, net->out),
                           dscm_exec_data(base.exec, net->out), rig_count(&base, net->out, 2)),
                       0, 1e-4);
            CHECK_NEAR(gap(dscm_exec_grad(other.exec, net->x), dscm_exec_grad(base.exec, net->x),
                           rig_count(&base, net->x, 2)),
                       0, 1e-3);
            CHECK_NEAR(gap(dscm_exec_param_grads(other.exec), dscm_exec_param_grads(base.exec),
                           net->params.floats),
                       0, 1e-3);
            rig_close(&base);
            rig_close(&other);
            dscm_net_free(net);
        }
}

/* Parameter counts of published checkpoints: every block, projection and table is there. */
static void published_counts(void)
{
    static const struct {
        dscm_arch arch;
        size_t size, channels, blocks, levels, classes, heads, head_channels, params;
        double mult[7];
    } presets[] = {
        {DSCM_ARCH_UNET, 64, 192, 3, 4, 1000, 1, 64, 295904454, {1, 2, 3, 4}},
        {DSCM_ARCH_UNET, 128, 256, 2, 5, 1000, 4, 0, 421529606, {1, 1, 2, 3, 4}},
        {DSCM_ARCH_UNET, 256, 256, 2, 6, 1000, 1, 64, 553838086, {1, 1, 2, 2, 4, 4}},
        {DSCM_ARCH_UNET, 256, 256, 2, 6, 0, 1, 64, 552814086, {1, 1, 2, 2, 4, 4}},
        {DSCM_ARCH_UNET, 512, 256, 2, 7, 1000, 1, 64, 558997638, {.5, 1, 1, 2, 2, 4, 4}},
        {DSCM_ARCH_ENCODER, 64, 128, 4, 4, 0, 1, 64, 65438568, {1, 2, 3, 4}},
        {DSCM_ARCH_ENCODER, 128, 128, 2, 5, 0, 1, 64, 42568040, {1, 1, 2, 3, 4}},
        {DSCM_ARCH_ENCODER, 256, 128, 2, 6, 0, 1, 64, 54096360, {1, 1, 2, 2, 4, 4}},
        {DSCM_ARCH_ENCODER, 512, 128, 2, 7, 0, 1, 64, 54448360, {.5, 1, 1, 2, 2, 4, 4}},
    };
    for (size_t i = 0; i < TEST_COUNT(presets); i++) {
        dscm_net_config c = dscm_net_config_defaults(presets[i].arch);
        c.image_size = presets[i].size;
        c.in_channels = 3;
        c.out_channels = presets[i].arch == DSCM_ARCH_ENCODER ? 1000 : 6;
        c.learn_sigma = presets[i].arch == DSCM_ARCH_UNET;
        c.model_channels = presets[i].channels;
        c.num_res_blocks = presets[i].blocks;
        c.levels = presets[i].levels;
        memcpy(c.channel_mult, presets[i].mult, sizeof presets[i].mult);
        c.num_classes = presets[i].classes;
        c.num_heads = presets[i].heads;
        c.num_head_channels = presets[i].head_channels;
        c.resblock_updown = true;
        c.attention_count = 3;
        for (size_t k = 0; k < 3; k++) c.attention_resolutions[k] = (size_t)32 >> k;
        dscm_error err = {0};
        dscm_net *net = NULL;
        CHECK_INT(dscm_net_open(&net, &c, &err), DSCM_OK);
        if (!net) continue;
        CHECK_INT(net->params.floats, presets[i].params);
        dscm_net_free(net);
    }
}

static void wrong_configurations(void)
{
    static const struct {
        const char *key;
        size_t size, channels, levels, head_channels;
        dscm_pool pool;
        dscm_arch arch;
    } wrong[] = {
        {"channel_mult", 28, 20, 2, 0, 0, DSCM_ARCH_UNET},
        {"image_size", 28, 32, 4, 0, 0, DSCM_ARCH_UNET}, /* 7 -> 3 -> 6 misses its skip */
        {"image_size", 2, 32, 2, 0, 0, DSCM_ARCH_UNET},
        {"num_head_channels", 28, 32, 2, 48, DSCM_POOL_ATTENTION, DSCM_ARCH_ENCODER},
        {"multiple of 4", 30, 32, 2, 0, 0, DSCM_ARCH_VAE}, /* 30 -> 15 -> 8 -> 32 */
        {"multiple of 2", 27, 32, 2, 0, 0, DSCM_ARCH_AUTOENCODER},
    };
    for (size_t i = 0; i < TEST_COUNT(wrong); i++) {
        dscm_net_config c = dscm_net_config_defaults(wrong[i].arch);
        c.image_size = wrong[i].size;
        c.model_channels = wrong[i].channels;
        c.levels = wrong[i].levels;
        c.channel_mult[3] = 1;
        c.num_head_channels = wrong[i].head_channels;
        c.pool = wrong[i].pool;
        dscm_error err = {0};
        dscm_net *net = NULL;
        CHECK_INT(dscm_net_open(&net, &c, &err), DSCM_E_INVALID);
        CHECK_HAS(err.message, wrong[i].key);
        CHECK(net == NULL);
        dscm_net_free(net);
    }
}

int main(int argc, char **argv)
{
    static const test_case list[] = {{"gradients", gradients},
                                     {"modes_agree", modes_agree},
                                     {"reruns_agree", reruns_agree},
                                     {"batches_agree", batches_agree},
                                     {"teams_agree", teams_agree},
                                     {"instruction_sets_agree", instruction_sets_agree},
                                     {"published_counts", published_counts},
                                     {"wrong_configurations", wrong_configurations}};
    dscm_error err = {0};
    if (dscm_gemm_check(&err) != DSCM_OK) {
        printf("%s\n", err.message);
        return 1;
    }
    return test_main(argc, argv, list, TEST_COUNT(list));
}
