// Inpainting by blending states and by replacing x0, and ILVR: what is known is known exactly, has
// the right level at every stage, and what is not known is sampled as without it.

#include "catch.hpp"
#include "exact_edit.hpp"
#include "refusals.hpp"
#include "support.hpp"

#include <diffusion/edit/ilvr.hpp>
#include <diffusion/edit/inpaint.hpp>
#include <diffusion/edit/repaint.hpp>
#include <diffusion/noise/philox.hpp>
#include <diffusion/noise/recorded.hpp>
#include <diffusion/noise/torch_cpu_noise.hpp>

#include <cmath>
#include <cstddef>
#include <functional>
#include <limits>
#include <string>
#include <vector>

using namespace diffusion;
using Catch::Approx;
using exact::Points;

namespace {

const double not_a_number = std::numeric_limits<double>::quiet_NaN();

Gaussian data(Eigen::Index d) {
  return Gaussian::isotropic(Eigen::VectorXd::Constant(d, 0.4), 0.36);
}

Points row(std::initializer_list<double> values) {
  Points points(1, static_cast<Eigen::Index>(values.size()));
  Eigen::Index i = 0;
  for (const double value : values) points(0, i++) = value;
  return points;
}

TEST_CASE("what is known ends as the picture, bit for bit, with every sampler and prediction") {
  const Points picture = row({0.1, -0.7, 1.3}), mask = row({1, 0, 1});
  for (const auto& [name, sampler, type] : exact::cases(7))
    for (const KnownNoise kind : {KnownNoise::fresh, KnownNoise::fixed}) {
      const Points x =
          sample<Points>(sampler, exact_denoiser(data(3), type), {4, 3}, PhiloxNoise{5}, {},
                         Inpaint(picture, mask, PhiloxNoise{5}, kind));
      INFO(name);
      for (int i = 0; i < 4; ++i) {
        CHECK(x(i, 0) == 0.1);
        CHECK(x(i, 2) == 1.3);
        CHECK(std::abs(x(i, 1) + 0.7) > 1e-6);
      }
    }
}

TEST_CASE("independent pixels: what is not known is sampled as without the edit, bit for bit") {
  const Points picture = row({0.1, -0.7, 1.3}), mask = row({1, 0, 1});
  for (const auto& [name, sampler, type] : exact::cases(7)) {
    const auto network = exact_denoiser(data(3), type);
    const Points plain = sample<Points>(sampler, network, {4, 3}, PhiloxNoise{5});
    const Points blended = sample<Points>(sampler, network, {4, 3}, PhiloxNoise{5}, {},
                                          Inpaint(picture, mask, PhiloxNoise{5}));
    const Points replaced =
        sample<Points>(sampler, network, {4, 3}, PhiloxNoise{5}, {}, InpaintX0(picture, mask));
    INFO(name);
    for (int i = 0; i < 4; ++i) {
      CHECK(blended(i, 1) == plain(i, 1));
      CHECK(replaced(i, 1) == Approx(plain(i, 1)).margin(1e-10));  // x0 to f and back rounds
      CHECK(replaced(i, 0) == Approx(0.1).margin(name.starts_with("LCM") ? 1e-3 : 1e-9));
      CHECK(replaced(i, 2) == Approx(1.3).margin(name.starts_with("LCM") ? 1e-3 : 1e-9));
    }
  }
}

TEST_CASE("the known part has the right mean and noise level after every stage, jumps included") {
  const Points picture = row({0.8, 0}), mask = row({1, 0});
  for (const auto& [name, sampler, type] : exact::cases(6))
    for (const KnownNoise kind : {KnownNoise::fresh, KnownNoise::fixed})
      for (const int n_sample : {1, 2}) {
        const auto plan = repaint_plan(sampler, {.jump_length = 2, .jump_n_sample = n_sample});
        const exact::UnitNoise noise{2};
        int stages = 0;
        const auto check = [&](const Knot& level, const Points& x) {
          const auto law = exact::law_of(x);
          CHECK(law.mean[0] == Approx(0.8 * level.alpha).epsilon(1e-12));
          CHECK(law.covariance(0, 0) ==
                Approx(level.sigma * level.sigma).epsilon(1e-10).margin(1e-15));
        };
        INFO(name << ", n_sample " << n_sample);
        sample<Points>(plan, exact_denoiser(data(2), type), {exact::batch_of(plan, 2), 2}, noise,
                       {}, Inpaint(picture, mask, noise, kind),
                       exact::Watch{[&](const Stage& stage, const Points& x) {
                         ++stages;
                         check(stage.to, x);
                       }});
        CHECK(stages == plan.size());
      }
}

TEST_CASE("the stage's own draw as the noise of the known part") {
  const Points picture = row({0.8, 0}), mask = row({1, 0});
  const AnySampler sampler{NoiseSchedule<>::scaled_linear(), EulerAncestralOptions{.steps = 6}};
  const SamplingPlan plan = sampler.plan();
  const exact::UnitNoise noise{2};
  const auto law = exact::law_of(
      sample<Points>(plan, exact_denoiser(data(2)), {exact::batch_of(plan, 2), 2}, noise, {},
                     Inpaint(picture, mask, noise, KnownNoise::draw),
                     exact::Watch{[&](const Stage& stage, const Points& x) {
                       const auto now = exact::law_of(x);
                       CHECK(now.covariance(0, 0) ==
                             Approx(stage.to.sigma * stage.to.sigma).epsilon(1e-10).margin(1e-15));
                       // both halves share the draw, not the pixel: they stay independent
                       CHECK(std::abs(now.covariance(0, 1)) < 1e-12);
                     }}));
  CHECK(law.mean[0] == 0.8);
  const AnySampler silent{NoiseSchedule<>::scaled_linear(), DdimOptions{.steps = 6}};
  check_refusals({{"refused",
                   [&] {
                     sample<Points>(silent, exact_denoiser(data(2)), {2, 2}, PhiloxNoise{1}, {},
                                    Inpaint(picture, mask, PhiloxNoise{1}, KnownNoise::draw));
                   },
                   {"KnownNoise::draw takes the noise of each stage, but stage 0 of 6 has none"}}});
}

TEST_CASE("soft masks: a blend of states loses noise, a replaced x0 does not") {
  // After a stage, half of two independent noises of sigma^2 is sigma^2 / 2; the x0 form leaves the
  // state's own noise as it is.
  const Points picture = row({0.8}), mask = row({0.5});
  const AnySampler sampler{NoiseSchedule<>::scaled_linear(), DdimOptions{.steps = 20}};
  const SamplingPlan plan = sampler.plan();
  const exact::UnitNoise noise{1};
  std::vector<double> blended, replaced;
  const auto share = [](std::vector<double>& list) {
    return exact::Watch{[&list](const Stage& stage, const Points& x) {
      if (stage.to.sigma > 0)
        list.push_back(exact::law_of(x).covariance(0, 0) / (stage.to.sigma * stage.to.sigma));
    }};
  };
  const auto one_point = exact_denoiser(Gaussian::isotropic(Eigen::VectorXd::Zero(1), 0));
  const Eigen::Index batch = exact::batch_of(plan, 1);
  sample<Points>(plan, one_point, {batch, 1}, noise, {}, Inpaint(picture, mask, noise),
                 share(blended));
  sample<Points>(plan, one_point, {batch, 1}, noise, {}, InpaintX0(picture, mask), share(replaced));
  CHECK(blended.back() < 0.6);
  for (const double part : replaced) CHECK(part == Approx(1).epsilon(1e-2));
  const Points x =
      sample<Points>(plan, one_point, {1, 1}, PhiloxNoise{1}, {}, InpaintX0(picture, mask));
  CHECK(x(0, 0) == Approx(0.4).margin(1e-12));  // half of picture and point
}

TEST_CASE("correlated pixels: replacing x0 and blending, against the exact posterior") {
  // Known x1 = 1.5 of two unit normals of correlation 0.8: the posterior's mean is 1.2. Neither
  // form conditions exactly; both are drawn the right way.
  Eigen::MatrixXd covariance(2, 2);
  covariance << 1, 0.8, 0.8, 1;
  const Gaussian pair(Eigen::VectorXd::Zero(2), covariance);
  const Points picture = row({1.5, 0}), mask = row({1, 0});
  for (const auto& [name, sampler, type] : exact::cases(20)) {
    const SamplingPlan plan = sampler.plan();
    const exact::UnitNoise noise{2};
    const auto network = exact_denoiser(pair, type);
    const auto mean_of = [&](auto edit) {
      return exact::law_of(
                 sample<Points>(plan, network, {exact::batch_of(plan, 2), 2}, noise, {}, edit))
          .mean[1];
    };
    INFO(name);
    const double blended = mean_of(Inpaint(picture, mask, noise));
    const double replaced = mean_of(InpaintX0(picture, mask));
    CHECK(blended > 0.3);
    CHECK(blended < 1.2);
    CHECK(replaced > 0.3);
    CHECK(replaced < 1.25);
  }
}

TEST_CASE("masks and pictures are repeated along extents of 1, in both layouts") {
  using Image = Eigen::Tensor<float, 4, Eigen::RowMajor>;
  using Column = Eigen::Tensor<float, 4, Eigen::ColMajor>;
  const DdimSampler sampler{NoiseSchedule<>::scaled_linear(), {.steps = 3}};
  const auto network = [](const auto& x, double, auto& out) { out = x * 0.1f; };
  Image picture(1, 2, 2, 3), mask(1, 1, 2, 3);
  for (Eigen::Index i = 0; i < picture.size(); ++i)
    picture.data()[i] = 0.1f * static_cast<float>(i + 1);
  for (Eigen::Index i = 0; i < mask.size(); ++i) mask.data()[i] = i % 2 == 0 ? 1.0f : 0.0f;
  const Image x = sample<Image>(sampler, network, {5, 2, 2, 3}, PhiloxNoise{1}, {},
                                Inpaint(picture, mask, PhiloxNoise{1}));
  Column turned(3, 2, 2, 1), turned_mask(3, 2, 1, 1);  // width, height, channel, batch
  std::copy_n(picture.data(), picture.size(), turned.data());
  std::copy_n(mask.data(), mask.size(), turned_mask.data());
  const Column z = sample<Column>(sampler, network, {3, 2, 2, 5}, PhiloxNoise{1}, {},
                                  Inpaint(turned, turned_mask, PhiloxNoise{1}));
  for (int b = 0; b < 5; ++b)
    for (int c = 0; c < 2; ++c)
      for (int i = 0; i < 2; ++i)
        for (int j = 0; j < 3; ++j) {
          CHECK(x(b, c, i, j) == z(j, i, c, b));
          if (mask(0, 0, i, j) == 1) CHECK(x(b, c, i, j) == picture(0, c, i, j));
        }
}

TEST_CASE("sources in order, views, a matrix and one sample as states") {
  const DdimSampler sampler{NoiseSchedule<>::scaled_linear(), {.steps = 4}};
  const auto network = [](const auto& x, double, auto& out) { out = 0.1 * x; };
  const Eigen::MatrixXd picture = Eigen::MatrixXd::Constant(3, 2, 0.5);
  Eigen::MatrixXd mask = Eigen::MatrixXd::Zero(3, 2);
  mask(1, 0) = 1;
  TorchCpuNoise in_order(7);
  const Eigen::MatrixXd x = sample<Eigen::MatrixXd>(
      sampler, network, {3, 2}, PhiloxNoise{1}, {.batch = false}, Inpaint(picture, mask, in_order));
  CHECK(x(1, 0) == 0.5);
  CHECK(x(0, 0) != 0.5);

  Eigen::MatrixXd state = Eigen::MatrixXd::Random(3, 2);
  const Eigen::Map<const Eigen::MatrixXd> seen(mask.data(), 3, 2);
  sample_in_place(sampler, network, Eigen::Map<Eigen::MatrixXd>(state.data(), 3, 2), in_order, {},
                  Inpaint(picture, seen, PhiloxNoise{1}, KnownNoise::fixed));
  CHECK(state(1, 0) == 0.5);

  RecordedNoise few(std::vector<std::vector<double>>(2, std::vector<double>(6, 0.5)));
  CHECK_THROWS_AS(sample<Eigen::MatrixXd>(sampler, network, {3, 2}, PhiloxNoise{1}, {},
                                          Inpaint(picture, mask, few)),
                  Error);
}

// ---- ILVR ---------------------------------------------------------------------------------------

double block_mean(const Points& x, Eigen::Index sample, Eigen::Index first, Eigen::Index size) {
  double sum = 0;
  for (Eigen::Index i = 0; i < size; ++i) sum += x(sample, first + i);
  return sum / static_cast<double>(size);
}

TEST_CASE("ILVR: the blocks end with the reference's means, what is in them as without it") {
  const Points reference = row({0.1, 0.5, -0.2, 0.8, 1.0, -0.4});
  for (const auto& [name, sampler, type] : exact::cases(7)) {
    const auto network = exact_denoiser(data(6), type);
    const Points plain = sample<Points>(sampler, network, {3, 6}, PhiloxNoise{5});
    const Points x = sample<Points>(sampler, network, {3, 6}, PhiloxNoise{5}, {},
                                    Ilvr(reference, PhiloxNoise{5}, IlvrOptions{.factor = 3}));
    INFO(name);
    for (int b = 0; b < 3; ++b)
      for (const int first : {0, 3}) {
        const double mean = block_mean(x, b, first, 3);
        CHECK(mean == Approx(block_mean(reference, 0, first, 3)).margin(1e-12));
        for (int i = first; i < first + 3; ++i)  // the network of equal pixels mixes nothing in
          CHECK(x(b, i) - mean ==
                Approx(plain(b, i) - block_mean(plain, b, first, 3)).margin(1e-9));
      }
  }
}

TEST_CASE("ILVR: block means have the level of every stage; the last steps may be left alone") {
  const Points reference = row({0.8, 0.8});
  const AnySampler sampler{NoiseSchedule<>::scaled_linear(), DdimOptions{.steps = 8}};
  const SamplingPlan plan = sampler.plan();
  const exact::UnitNoise noise{2};
  const Eigen::Index batch = exact::batch_of(plan, 2);
  int followed = 0;
  const auto law = exact::law_of(sample<Points>(
      plan, exact_denoiser(data(2)), {batch, 2}, noise, {},
      Ilvr(reference, noise, IlvrOptions{.factor = 2, .free_steps = 3}),
      exact::Watch{[&](const Stage& stage, const Points& x) {
        const auto now = exact::law_of(x);
        const double mean = (now.mean[0] + now.mean[1]) / 2;
        const double spread = now.covariance.sum() / 4;  // of the mean of two
        if (stage.step < 5) {
          ++followed;
          CHECK(mean == Approx(0.8 * stage.to.alpha).epsilon(1e-12));
          CHECK(spread == Approx(stage.to.sigma * stage.to.sigma / 2).epsilon(1e-10));
        }
      }}));
  CHECK(followed == 5);
  CHECK(std::abs((law.mean[0] + law.mean[1]) / 2 - 0.8) > 1e-3);
}

TEST_CASE("ILVR: blocks of pixels in height and width") {
  using Image = Eigen::Tensor<float, 4, Eigen::RowMajor>;
  const DdimSampler sampler{NoiseSchedule<>::scaled_linear(), {.steps = 3}};
  const auto network = [](const Image& x, double, Image& out) { out = x * 0.1f; };
  Image reference(1, 2, 4, 6);
  for (Eigen::Index i = 0; i < reference.size(); ++i)
    reference.data()[i] = 0.05f * static_cast<float>(i % 11);
  const Image x = sample<Image>(sampler, network, {2, 2, 4, 6}, PhiloxNoise{1}, {},
                                Ilvr(reference, PhiloxNoise{1}, IlvrOptions{.factor = 2}));
  for (int b = 0; b < 2; ++b)
    for (int c = 0; c < 2; ++c)
      for (int i = 0; i < 4; i += 2)
        for (int j = 0; j < 6; j += 2) {
          const auto mean = [&](const Image& of, int sample) {
            return (of(sample, c, i, j) + of(sample, c, i + 1, j) + of(sample, c, i, j + 1) +
                    of(sample, c, i + 1, j + 1)) /
                   4;
          };
          CHECK(mean(x, b) == Approx(mean(reference, 0)).margin(1e-6));
        }
}

// ---- errors -------------------------------------------------------------------------------------

TEST_CASE("masks, pictures and options that do not fit are refused") {
  const DdimSampler sampler{NoiseSchedule<>::scaled_linear(), {.steps = 3}};
  const auto network = exact_denoiser(data(4));
  const Points y = row({0, 0.5, 1, 0.5}), m = row({1, 0, 0.5, 0});
  const auto run = [&](auto edit) {
    sample<Points>(sampler, network, {2, 4}, PhiloxNoise{1}, {}, edit);
  };
  const auto blend = [&](const Points& picture, const Points& mask) {
    run(Inpaint(picture, mask, PhiloxNoise{1}));
  };
  const auto replace = [&](const Points& picture, const Points& mask) {
    run(InpaintX0(picture, mask));
  };
  const auto ilvr = [&](const Points& picture, IlvrOptions options) {
    run(Ilvr(picture, PhiloxNoise{1}, options));
  };
  const std::string fits = "each dimension must be that of the state, 2x4, or 1";
  struct Row {
    std::function<void()> make;
    std::string says;
  };
  for (const Row& one : std::vector<Row>{
           {[&] {
              blend(y, row({1, 0, 1.5, 0}));
            },
            "the mask holds 1.5 as element 2; every number must lie in [0, 1]"},
           {[&] {
              blend(y, row({-0.5, 0, 0, 0}));
            },
            "the mask holds -0.5 as element 0"},
           {[&] {
              blend(y, row({1, not_a_number, 0, 0}));
            },
            "the mask holds nan as element 1; every number must be finite"},
           {[&] {
              blend(row({1, 0, 0, 1 / 0.0}), m);
            },
            "the known picture holds inf as element 3"},
           {[&] {
              blend(y, row({1, 0}));
            },
            "the mask has the shape 1x2; " + fits},
           {[&] {
              blend(row({1, 0, 1}), m);
            },
            "the known picture has the shape 1x3; " + fits},
           {[&] { blend(Points(0, 4), m); }, "the known picture has the shape 0x4"},
           {[&] { Inpaint(y, m, PhiloxNoise{1}, static_cast<KnownNoise>(7)); }, "KnownNoise is 7"},
           {[&] {
              replace(y, row({2, 0, 0, 0}));
            },
            "the mask holds 2 as element 0"},
           {[&] {
              replace(y, row({1, 0, 0}));
            },
            "the mask has the shape 1x3; " + fits},
           {[&] {
              replace(Points(row({0, 0})), m);
            },
            "the known picture has the shape 1x2"},
           {[&] { ilvr(y, {.factor = 3}); }, "factor is 3; it must divide height and width"},
           {[&] { ilvr(y, {.factor = 0}); }, "IlvrOptions::factor is 0; it must lie in [1,"},
           {[&] { ilvr(y, {.free_steps = -1}); }, "IlvrOptions::free_steps is -1"},
           {[&] {
              ilvr(row({0, 0, 0}), {.factor = 2});
            },
            "the known picture has the shape 1x3"},
           {[&] {
              const SamplingPlan plan = sampler.plan();
              Stepper stepper(plan, y, PhiloxNoise{1});
              stepper.output().setZero();
              stepper.advance();
              Inpaint edit(y, m, PhiloxNoise{1});
              edit.edit_state(stepper, stepper.writable_state());
            },
            "before its edit_start was called"},
       }) {
    check_refusals({{one.says.c_str(), one.make, {one.says.c_str()}}});
  }
}

}  // namespace
