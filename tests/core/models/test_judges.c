/* Networks that judge images: gradients of every architecture against differences, and what their
 * callers rely on: names of outputs, shapes, families. */
#include "core/models/net.h"
#include "tests/core/nn/gradcheck.h"

static const dscm_arch archs[] = {DSCM_ARCH_CNN, DSCM_ARCH_PLAIN_CNN, DSCM_ARCH_RESNET,
                                  DSCM_ARCH_VAE, DSCM_ARCH_MLP_VAE};

static dscm_net *net_of(dscm_arch arch, size_t channels)
{
    dscm_error err = {0};
    dscm_net_config c = dscm_net_config_defaults(arch);
    c.image_size = 8;
    c.in_channels = channels;
    c.model_channels = 8;
    c.latent = 3;
    if (dscm_arch_judges(arch)) c.out_channels = 4;
    dscm_net *net = NULL;
    if (dscm_net_open(&net, &c, &err) != DSCM_OK) {
        TEST_FAIL_("%s: %s", dscm_arch_name(arch), err.message);
        abort();
    }
    return net;
}

/* Steps are small for the kinks of ReLU and max: of 0.01 they leave 73 slopes of six seeds off by more
 * than 1 %, of 0.003 39, of 0.001 single ones, by less than 3 %. */
static void gradients(void)
{
    static const char *const outputs[] = {"out", NULL};
    for (size_t i = 0; i < TEST_COUNT(archs); i++)
        for (size_t channels = 1; channels <= 3; channels += 2) {
            dscm_net *net = net_of(archs[i], channels);
            dscm_tensor noise = dscm_graph_find(net->graph, "noise");
            rig r = {.graph = net->graph,
                     .borrowed = true,
                     .table = &net->params,
                     .in = {net->x, noise},
                     .has_grad = {true, noise >= 0},
                     .inputs = noise >= 0 ? 2 : 1,
                     .out = net->out,
                     .every = 7,
                     .batch = 2,
                     .outputs = outputs,
                     .step = 0.001f,
                     .tolerance = 0.03,
                     .conditions = 1};
            rig_open(&r, dscm_cpu_best_isa(), DSCM_EXEC_PARAM_GRAD, NULL);
            rig_check(&r, dscm_arch_name(archs[i]));
            rig_close(&r);
            dscm_net_free(net);
        }
}

/* Classifiers show logits and 128 features, VAEs mu, logvar and an image. */
static void outputs_are_those_of_the_family(void)
{
    for (size_t i = 0; i < TEST_COUNT(archs); i++) {
        dscm_net *net = net_of(archs[i], 3);
        size_t h = 0, w = 0, c = 0;
        CHECK_INT(dscm_arch_judges(archs[i]) + dscm_arch_encodes(archs[i]), 1);
        if (dscm_arch_judges(archs[i])) {
            dscm_graph_dims(net->graph, dscm_graph_find(net->graph, "features"), &h, &w, &c);
            CHECK_INT(h * w * c, 128);
            dscm_graph_dims(net->graph, net->out, &h, &w, &c);
            CHECK_INT(h * w * c, 4);
        } else {
            static const char *const codes[] = {"mu", "logvar", "noise"};
            for (size_t k = 0; k < 3; k++) {
                dscm_tensor code = dscm_graph_find(net->graph, codes[k]);
                REQUIRE(code >= 0);
                dscm_graph_dims(net->graph, code, &h, &w, &c);
                CHECK_INT(h * w * c, 3);
            }
            dscm_graph_dims(net->graph, net->out, &h, &w, &c);
            CHECK(h == 8 && w == 8 && c == 3);
        }
        dscm_net_free(net);
    }
}

static void names_are_read_back(void)
{
    for (int a = 0; a < DSCM_ARCH_COUNT; a++) {
        dscm_arch got = DSCM_ARCH_COUNT;
        CHECK_INT(dscm_arch_parse(&got, dscm_arch_name((dscm_arch)a), NULL), DSCM_OK);
        CHECK_INT(got, a);
    }
    dscm_arch none;
    dscm_error err = {0};
    CHECK_INT(dscm_arch_parse(&none, "transformer", &err), DSCM_E_UNKNOWN);
    CHECK_HAS(err.message, "transformer");
    CHECK_HAS(err.message, "mlp_vae");
}

int main(int argc, char **argv)
{
    static const test_case list[] = {
        {"gradients", gradients},
        {"outputs_are_those_of_the_family", outputs_are_those_of_the_family},
        {"names_are_read_back", names_are_read_back}};
    dscm_error err = {0};
    if (dscm_gemm_check(&err) != DSCM_OK) {
        printf("%s\n", err.message);
        return 1;
    }
    return test_main(argc, argv, list, TEST_COUNT(list));
}
