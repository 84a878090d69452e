// Bits per dimension of a network on real test pictures, by the probability flow ODE in double with
// Hutchinson's estimate. The pictures are those that training/get_data.sh puts into a folder; none
// come with the sources.
#include <diffusion/forward/bound_terms.hpp>
#include <diffusion/interop/diffusers_config.hpp>
#include <diffusion/likelihood/ode_likelihood.hpp>
#include <diffusion/noise/philox.hpp>
#include <nn/unet2d.hpp>
#include <support/command_line.hpp>
#include <support/idx.hpp>
#include <support/progress.hpp>

#include <CLI/CLI.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <numbers>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace {

using Network = nn::Unet2d<double>;
using Pictures = Network::Batch;
using Eigen::Index;

struct Options {
  std::string data = "data";
  std::string model = "examples/models/digits-and-clothing";
  int count = 50;  // of each set
  int skip = 0;    // leave out so many first
  int steps = 16;  // of RK4
  int probes = 1;
  bool labels = false;
};

struct TestSet {
  std::string title;
  Pictures pictures;  // bytes, 0 to 255
  std::vector<int> labels;
};

TestSet load(const Options& options, const std::string& title, const std::string& name,
             int first_class) {
  const std::filesystem::path folder = std::filesystem::path(options.data) / name;
  const auto images = examples::read_idx(folder, "t10k-images-idx3-ubyte");
  const auto classes = examples::read_idx(folder, "t10k-labels-idx1-ubyte");
  const auto first = static_cast<std::size_t>(options.skip);
  const auto count = static_cast<std::size_t>(options.count);
  if (images.shape.size() != 3 || classes.shape.size() != 1 ||
      classes.shape[0] != images.shape[0] || images.shape[0] < first + count)
    throw std::runtime_error(folder.string() + " does not hold " + std::to_string(first + count) +
                             " pictures with labels");
  TestSet set{title,
              Pictures(options.count, 1, static_cast<Index>(images.shape[1]),
                       static_cast<Index>(images.shape[2])),
              {}};
  const std::size_t size = images.shape[1] * images.shape[2];
  for (std::size_t i = 0; i < count * size; ++i)
    set.pictures.data()[i] = images.values[first * size + i];
  for (std::size_t i = 0; i < count; ++i)
    set.labels.push_back(first_class + classes.values[first + i]);
  return set;
}

struct Mean {
  double value = 0, error = 0;
};

Mean mean_of(const std::vector<double>& values) {
  const auto n = static_cast<double>(values.size());
  Mean mean;
  for (const double value : values) mean.value += value / n;
  for (const double value : values) mean.error += (value - mean.value) * (value - mean.value);
  mean.error = n > 1 ? std::sqrt(mean.error / (n - 1) / n) : 0;
  return mean;
}

/// Bytes to the range of the network.
double scaled(double byte) { return byte / 127.5 - 1; }

class Measurement {
 public:
  explicit Measurement(const Options& options)
      : options_(options),
        network_(Network::load(std::filesystem::path(options.model) / "unet")),
        scheduler_(diffusion::load_diffusers_config(std::filesystem::path(options.model) /
                                                    "scheduler" / "scheduler_config.json")),
        schedule_(scheduler_.schedule<double>()) {
    network_.set_threads(static_cast<int>(std::max(1U, std::thread::hardware_concurrency())));
  }

  void run(const TestSet& set) {
    labels_ = set.labels;
    if (!options_.labels)
      labels_.assign(labels_.size(), static_cast<int>(network_.config().num_class_embeds) - 1);
    std::printf("%s, pictures %d to %d of the test set\n", set.title.c_str(), options_.skip,
                options_.skip + options_.count - 1);
    report("bytes spread over their bins", spread_evenly(set.pictures));
    report("noised to the first level, decoded", decoded(set.pictures));
  }

 private:
  struct Result {
    std::vector<double> bits;
    int network_calls = 0;
    double seconds = 0;
  };

  std::size_t batch() const { return labels_.size(); }

  /// Log densities of all pictures, a few at a time.
  std::vector<double> log_densities(const Pictures& x, std::uint64_t seed, Result& result) {
    constexpr Index together = 10;
    const Index count = x.dimension(0), size = x.size() / count;
    examples::Progress progress("pictures", static_cast<long>(count));
    std::vector<double> found;
    for (Index first = 0; first < count; first += together) {
      const Index part = std::min(together, count - first);
      Pictures some(part, x.dimension(1), x.dimension(2), x.dimension(3));
      std::copy_n(x.data() + first * size, part * size, some.data());
      const std::vector<int> labels(labels_.begin() + first, labels_.begin() + first + part);
      const auto denoiser = [&](const Pictures& z, double t, Pictures& out) {
        network_(z, t, labels, out);
      };
      diffusion::LikelihoodOptions options;
      options.ode = {.method = diffusion::OdeMethod::rk4, .steps = options_.steps};
      options.probes = options_.probes;
      options.probe_noise = diffusion::PhiloxNoise{seed, static_cast<std::uint64_t>(first)};
      options.prediction_type = scheduler_.prediction_type;
      const auto likelihood = diffusion::log_likelihood(schedule_, denoiser, some, options);
      found.insert(found.end(), likelihood.log_density.begin(), likelihood.log_density.end());
      result.network_calls = likelihood.network_calls;
      progress.update(static_cast<long>(first + part));
    }
    return found;
  }

  /// As most papers do: a byte b stands for any value between b - 1/2 and b + 1/2, and the density
  /// at the schedule's first level is taken for that of the data.
  Result spread_evenly(const Pictures& bytes) {
    const auto start = std::chrono::steady_clock::now();
    const std::size_t size = static_cast<std::size_t>(bytes.size()) / batch();
    Pictures x(bytes.dimensions());
    std::vector<double> normals(size);
    for (std::size_t i = 0; i < batch(); ++i) {
      diffusion::PhiloxNoise{1}.fill(i, 0, 0, std::span<double>(normals));
      for (std::size_t k = 0; k < size; ++k) {
        const double uniform = std::erfc(-normals[k] / std::numbers::sqrt2) / 2;
        x.data()[i * size + k] = scaled(bytes.data()[i * size + k] + uniform - 0.5);
      }
    }
    Result result;
    for (const double log_density : log_densities(x, 2, result))
      result.bits.push_back(diffusion::bits_per_dimension(log_density, size));
    result.seconds = seconds_since(start);
    return result;
  }

  /// A bound on the bits of a lossless code: x = alpha x0 + sigma n is a code for x0 that the
  /// network has been trained on, and DDPM's decoder reads x0 out of it,
  ///
  ///     -log P(x0) <= E[log q(x | x0) - log p(x) - log P(x0 | x)].
  Result decoded(const Pictures& bytes) {
    const auto start = std::chrono::steady_clock::now();
    const std::size_t size = static_cast<std::size_t>(bytes.size()) / batch();
    const diffusion::Knot at = schedule_.knot(0), next = schedule_.knot(1);
    Pictures x(bytes.dimensions());
    std::vector<double> normals(size), nats(batch(), 0);
    for (std::size_t i = 0; i < batch(); ++i) {
      diffusion::PhiloxNoise{3}.fill(i, 0, 0, std::span<double>(normals));
      for (std::size_t k = 0; k < size; ++k) {
        x.data()[i * size + k] =
            at.alpha * scaled(bytes.data()[i * size + k]) + at.sigma * normals[k];
        nats[i] += std::log(diffusion::normal_density(normals[k]) / at.sigma);
      }
    }
    Result result;
    const std::vector<double> log_density = log_densities(x, 4, result);
    Pictures f(bytes.dimensions());
    network_(x, at.t, labels_, f);
    const auto conversion = diffusion::conversion(scheduler_.prediction_type, at);
    const double log_variance = diffusion::BoundStep(next, at).log_small;
    for (std::size_t i = 0; i < batch(); ++i) {
      nats[i] -= log_density[i];
      for (std::size_t k = i * size; k < (i + 1) * size; ++k)
        nats[i] += diffusion::discretised_normal_nll(
            scaled(bytes.data()[k]), conversion.a * x.data()[k] + conversion.b * f.data()[k],
            log_variance);
      result.bits.push_back(nats[i] / static_cast<double>(size) / std::numbers::ln2);
    }
    result.seconds = seconds_since(start);
    return result;
  }

  static double seconds_since(std::chrono::steady_clock::time_point start) {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }

  static void report(const char* what, const Result& result) {
    const Mean mean = mean_of(result.bits);
    const auto [least, most] = std::minmax_element(result.bits.begin(), result.bits.end());
    std::printf(
        "  %-36s %.3f +- %.3f bits a dimension (%.3f to %.3f); %d network calls a "
        "picture, %.0f s\n",
        what, mean.value, mean.error, *least, *most, result.network_calls, result.seconds);
    std::fflush(stdout);
  }

  Options options_;
  Network network_;
  diffusion::DiffusersConfig scheduler_;
  diffusion::NoiseSchedule<double> schedule_;
  std::vector<int> labels_;
};

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app("Bits per dimension of a network on MNIST's and Fashion-MNIST's test pictures");
  app.add_option("--data", options.data, "folder that training/get_data.sh made")
      ->capture_default_str();
  app.add_option("--model", options.model, "folder of the network")->capture_default_str();
  examples::add_whole_number(app, "--count", options.count, 1, 10'000, "pictures of each set");
  examples::add_whole_number(app, "--skip", options.skip, 0, 9'999, "pictures to leave out first");
  examples::add_whole_number(app, "--probes", options.probes, 1, 1000, "of Hutchinson's estimate");
  examples::add_whole_number(app, "--steps", options.steps, 1, 10'000, "steps of RK4");
  app.add_flag("--labels", options.labels, "tell the network each picture's class");
  try {
    app.parse(argc, argv);
    const auto digits = load(options, "MNIST", "mnist", 0);
    const auto clothing = load(options, "Fashion-MNIST", "fashion-mnist", 10);
    Measurement measurement(options);
    measurement.run(digits);
    measurement.run(clothing);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "bits-per-dimension: %s\n", error.what());
    return 2;
  }
}
