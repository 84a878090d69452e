#ifndef DIFFUSION_TESTS_GOLDEN_CHECK_TABLES_HPP
#define DIFFUSION_TESTS_GOLDEN_CHECK_TABLES_HPP

#include <diffusion/forward/forward_diffusion.hpp>
#include <diffusion/interop/diffusers_config.hpp>

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <set>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "data.hpp"

/// Files without a loop: tables of betas, timesteps, noising, published configurations.
namespace golden {

/// The tables of schedules.json. Some classes change alphas_cumprod after their betas are made and
/// leave the old betas beside them; `beside` describes those.
struct Tables {
  diffusion::DiffusersBetas alphas, beside;
};

inline Tables tables_of(const Json& one) {
  const auto config = config_of(one);
  if (!config.betas) throw Unhandled(config.class_name + " has no table of betas");
  Tables tables{*config.betas, *config.betas};
  auto& beside = tables.beside.options;
  beside.terminal_alpha_cumprod = 0;
  beside.snr_shift_scale = 1;
  if (config.class_name.starts_with("CogVideoX")) beside.rescale_zero_terminal_snr = false;
  return tables;
}

inline double sum(const Numbers& numbers) {
  double sum = 0;
  for (const double x : numbers) sum += x;
  return sum;
}

/// A column of a table, whole or at `indices`, and its sum where that is given.
template <class Scalar>
void compare_column(Case& check, const Json& one, const char* name, std::span<const Scalar> table) {
  const Numbers whole(table.begin(), table.end());
  Numbers got = whole;
  if (one.contains("indices")) {
    got.clear();
    for (const Json& index : one.at("indices")) got.push_back(whole.at(index.get<std::size_t>()));
  }
  check.compare(name, numbers(one.at(name)), got);
  const std::string sum_name = std::string("sum_") + name;
  if (one.contains(sum_name)) check.compare(sum_name, number(one.at(sum_name)), sum(whole));
}

inline double squared(double x) { return x * x; }

template <class Scalar>
void check_schedule(Case& check, const Json& one) {
  const Tables tables = tables_of(one);
  const auto schedule = tables.alphas.schedule<Scalar>();
  compare_column(check, one, "betas", tables.beside.schedule<Scalar>().betas());
  compare_column(check, one, "alphas_cumprod", schedule.alphas_cumprod());
  if (!one.contains("final_alpha_cumprod")) return;
  const bool to_one = one.at("config").at("set_alpha_to_one");
  const auto grid = diffusion::make_grid(schedule, 1, {.set_alpha_to_one = to_one});
  check.compare("final_alpha_cumprod", number(one.at("final_alpha_cumprod")),
                squared(grid.finish().alpha));
}

inline void run_schedule(Report& report, const Json& one) {
  const std::string precision = one.at("coefficients");
  const std::string name = one.at("name");
  report.run("schedules/" + name + "/" + precision, tolerance_of(one), [&](Case& check) {
    in_precision(one, [&](auto scalar) { check_schedule<decltype(scalar)>(check, one); });
  });
}

template <class Scalar>
void check_timesteps(Case& check, const Json& one) {
  const auto config = config_of(one);
  const auto plan = config.plan<Scalar>(run_of(one, config));
  compare_timesteps(check, numbers(one.at("timesteps")), config.timesteps(plan));
  compare_sigmas(check, one, config.sigmas<Scalar>(run_of(one, config)));
  if (one.contains("init_noise_sigma"))
    check.compare("init_noise_sigma", number(one.at("init_noise_sigma")),
                  plan.traits().initial_scale);
}

/// "leading-10" and the like: what tells one case of a class from another at a glance.
inline std::string settings_of(const Json& one) {
  const std::string spacing = one.at("config").value("timestep_spacing", "");
  const Json& set = one.at("set_timesteps");
  const Json steps = set.is_object() ? set.value("num_inference_steps", Json()) : Json();
  return "/" + spacing + (steps.is_null() ? "" : "-" + steps.dump());
}

inline void run_timesteps(Report& report, const Json& one, std::size_t index) {
  const std::string scheduler = one.at("scheduler");
  report.run(text("timesteps/", index, "/", scheduler, settings_of(one)), tolerance_of(one),
             [&](Case& check) {
               in_precision(one,
                            [&](auto scalar) { check_timesteps<decltype(scalar)>(check, one); });
             });
}

/// The levels of add_noise, one for each sample: of the times given, or, where the class goes by
/// its place in the run, of the stage where it stands.
template <class Scalar>
std::vector<diffusion::Knot> noising_levels(const Json& one,
                                            const diffusion::DiffusersConfig& config,
                                            const diffusion::DiffusersRun& run) {
  const auto batch = one.at("shape")[0].get<std::size_t>();
  if (one.contains("begin_index")) {
    const int place = one.at("begin_index").get<int>() + one.value("steps_taken_before", 0);
    const auto plan = config.plan<Scalar>(run);
    if (place < 0 || place >= plan.size())
      throw std::runtime_error(text("begin_index leads to step ", place, " of ", plan.size()));
    return std::vector<diffusion::Knot>(batch, noising_level<Scalar>(config, run, plan, place));
  }
  std::vector<diffusion::Knot> levels;
  for (const double t : numbers(one.at("timesteps")))
    levels.push_back(config.level<Scalar>(t, run));
  if (levels.size() == 1) levels.resize(batch, levels[0]);
  return levels;
}

/// alpha * sample + sigma * noise, each sample of the batch at its own level.
template <class Scalar>
Numbers mix(const Tensor<Scalar>& sample, const Tensor<Scalar>& noise,
            const std::vector<diffusion::Knot>& levels) {
  const Eigen::Index batch = sample.dimension(0), size = sample.size() / batch;
  const Shape one{1, sample.dimension(1), sample.dimension(2), sample.dimension(3)};
  Numbers mixed;
  for (Eigen::Index b = 0; b < batch; ++b) {
    const auto slice = [&](const Tensor<Scalar>& all) {
      Tensor<Scalar> part(one);
      std::copy_n(all.data() + b * size, size, part.data());
      return part;
    };
    Tensor<Scalar> out(one);
    const auto own = (std::min)(static_cast<std::size_t>(b), levels.size() - 1);  // or one for all
    diffusion::add_noise(slice(sample), slice(noise), levels.at(own), out);
    for (const double x : numbers(out)) mixed.push_back(x);
  }
  return mixed;
}

template <class Scalar>
void check_add_noise(Case& check, const Json& one) {
  const auto config = config_of(one);
  const auto run = one.contains("set_timesteps") ? run_of(one, config) : diffusion::DiffusersRun{};
  const Shape shape = shape_of(one.at("shape"));
  const auto sample = tensor<Scalar>(numbers(one.at("sample")), shape);
  const auto noise = tensor<Scalar>(numbers(one.at("noise")), shape);
  if (!config.method.level && !one.contains("begin_index")) {
    const diffusion::ForwardDiffusion<Scalar> forward(config.schedule<Scalar>());
    const Numbers times = numbers(one.at("timesteps"));
    check.compare("noisy", numbers(one.at("noisy")),
                  numbers(forward.add_noise(sample, noise, times)));
    if (!one.contains("velocity")) return;
    check.compare(
        "velocity", numbers(one.at("velocity")),
        numbers(forward.training_target(diffusion::PredictionType::v, sample, noise, times)));
    return;
  }
  check.compare("noisy", numbers(one.at("noisy")),
                mix(sample, noise, noising_levels<Scalar>(one, config, run)));
  if (!one.contains("velocity")) return;
  std::vector<diffusion::Knot> levels;
  for (const double t : numbers(one.at("timesteps"))) {
    const diffusion::Knot at = config.velocity_level<Scalar>(t, run);
    levels.push_back({at.t, at.alpha, -at.sigma});
  }
  check.compare("velocity", numbers(one.at("velocity")), mix(noise, sample, levels));
}

inline void run_add_noise(Report& report, const Json& one, std::size_t index) {
  const std::string scheduler = one.at("scheduler");
  report.run(text("add_noise/", index, "/", scheduler), tolerance_of(one), [&](Case& check) {
    in_precision(one, [&](auto scalar) { check_add_noise<decltype(scalar)>(check, one); });
  });
}

inline Numbers first_five(const Numbers& table) {
  return {table.begin(), table.begin() + std::min<std::ptrdiff_t>(5, std::ssize(table))};
}
inline Numbers last_five(const Numbers& table) {
  return {table.end() - std::min<std::ptrdiff_t>(5, std::ssize(table)), table.end()};
}

/// The first and last five of a table, and their number.
template <class Range>
void compare_ends(Case& check, const std::string& name, const Json& expected, const Range& range) {
  const Numbers table(range.begin(), range.end());
  check.compare(name + " count", number(expected.at("count")), static_cast<double>(table.size()));
  check.compare(name, numbers(expected.at("first_5")), first_five(table));
  check.compare("last of " + name, numbers(expected.at("last_5")), last_five(table));
}

template <class Scalar>
void check_config_tables(Case& check, const diffusion::DiffusersConfig& config,
                         const diffusion::DiffusersRun& run, const Json& expected,
                         const std::string& precision) {
  const auto plan = config.plan<Scalar>(run);
  const Numbers times = config.timesteps(plan);
  check.compare(precision + " number of timesteps", number(expected.at("timesteps").at("count")),
                static_cast<double>(times.size()));
  compare_timesteps(check, numbers(expected.at("timesteps").at("first_5")), first_five(times));
  compare_timesteps(check, numbers(expected.at("timesteps").at("last_5")), last_five(times));
  check.compare(precision + " init_noise_sigma", number(expected.at("init_noise_sigma")),
                plan.traits().initial_scale);
  if (expected.contains("sigmas") && !expected.at("sigmas").is_null())
    compare_ends(check, precision + " sigmas", expected.at("sigmas"), config.sigmas<Scalar>(run));
  if (expected.contains("alphas_cumprod") && !expected.at("alphas_cumprod").is_null())
    compare_ends(check, precision + " alphas_cumprod", expected.at("alphas_cumprod"),
                 config.schedule<Scalar>().alphas_cumprod());
}

/// The keys that the class does not know, and that reading what it made of the file is the same.
inline void check_config_keys(Case& check, const Json& one,
                              const diffusion::DiffusersConfig& config,
                              const diffusion::DiffusersRun& run) {
  std::set<std::string> ignored;
  for (const auto& note : config.notes)
    if (note.kind == diffusion::DiffusersNote::Kind::ignored) ignored.insert(note.key);
  check.require(ignored == one.at("ignored_keys").get<std::set<std::string>>(),
                "ignored_keys: not those that are expected");
  const auto resolved =
      diffusion::read_diffusers_config(with_infinities(one.at("resolved_config")));
  check.require(resolved.class_name == config.class_name, "resolved_config: another class");
  check.require(resolved.prediction_type == config.prediction_type,
                "resolved_config: another prediction_type");
  check.require(resolved.plan(run) == config.plan(run), "resolved_config: another plan");
}

inline void check_scheduler_config(Case& check, const Json& one) {
  require_supported(one.at("resolved_config").at("_class_name"));
  const auto config = diffusion::parse_diffusers_config(one.at("text").get<std::string>(),
                                                        {.load_as = one.value("load_as", "")});
  const auto run = run_of(one, config);
  check_config_keys(check, one, config, run);
  check_config_tables<double>(check, config, run, one.at("float64"), "float64");
  check.set_tolerance(1e-5);
  check_config_tables<float>(check, config, run, one.at("float32"), "float32");
}

inline void run_scheduler_config(Report& report, const Json& one) {
  const std::string name = one.at("name");
  report.run("scheduler_configs/" + name, 1e-9,
             [&](Case& check) { check_scheduler_config(check, one); });
}

}  // namespace golden

#endif  // DIFFUSION_TESTS_GOLDEN_CHECK_TABLES_HPP
