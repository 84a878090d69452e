// Group normalisation followed by SiLU, forwards and backwards, for pictures in bfloat16 whose
// channels lie side by side (channels_last). distill.py compiles this file and uses it where it
// trains on a CPU: there PyTorch's own operators for the two take most of the time in bfloat16.
//
//   z = gamma (x + shift - mean) / deviation + beta,   y = z sigmoid(z)
//
// Mean and deviation are those of a picture's group of channels. `shift`, one number a picture and
// channel, is the projection of the time embedding that a residual block adds; it may be null.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

namespace {

using Half = std::uint16_t;  // the upper half of a float

float to_float(Half h) {
  const std::uint32_t bits = static_cast<std::uint32_t>(h) << 16;
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}

Half to_half(float x) {
  std::uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return static_cast<Half>((bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16);
}

struct Sizes {
  std::int64_t pictures, pixels, channels, groups;
};

/// y = scale (x) + offset of every channel of one picture: both lines of `coefficients`.
void coefficients(const Sizes& n, const float* shift, const float* gamma, const float* beta,
                  const float* statistics, float* scale, float* offset) {
  const std::int64_t members = n.channels / n.groups;
  for (std::int64_t c = 0; c < n.channels; ++c) {
    const float mean = statistics[2 * (c / members)];
    scale[c] = gamma[c] * statistics[2 * (c / members) + 1];
    offset[c] = beta[c] + ((shift ? shift[c] : 0.0F) - mean) * scale[c];
  }
}

/// Mean and reciprocal deviation of every group of one picture.
void measure(const Sizes& n, const Half* x, const float* shift, float epsilon, float* sums,
             float* squares, float* statistics) {
  const std::int64_t C = n.channels;
  std::fill(sums, sums + C, 0.0F);
  std::fill(squares, squares + C, 0.0F);
  for (std::int64_t p = 0; p < n.pixels; ++p) {
    for (std::int64_t c = 0; c < C; ++c) {
      const float v = to_float(x[p * C + c]);
      sums[c] += v;
      squares[c] += v * v;
    }
  }
  const std::int64_t members = C / n.groups;
  const double count = static_cast<double>(members * n.pixels);
  for (std::int64_t g = 0; g < n.groups; ++g) {
    double sum = 0, square = 0;
    for (std::int64_t c = g * members; c < (g + 1) * members; ++c) {
      const double s = shift ? shift[c] : 0.0F, m = static_cast<double>(n.pixels) * s;
      sum += sums[c] + m;
      square += squares[c] + 2 * s * sums[c] + m * s;
    }
    const double mean = sum / count, variance = (std::max)(square / count - mean * mean, 0.0);
    statistics[2 * g] = static_cast<float>(mean);
    statistics[2 * g + 1] = static_cast<float>(1 / std::sqrt(variance + epsilon));
  }
}

}  // namespace

/// y [pictures, pixels, channels]; statistics [pictures, groups, 2] is kept for the way back.
extern "C" void norm_silu(const Half* x, const float* shift, const float* gamma, const float* beta,
                          float epsilon, int silu, std::int64_t pictures, std::int64_t pixels,
                          std::int64_t channels, std::int64_t groups, float* statistics, Half* y) {
  const Sizes n{pictures, pixels, channels, groups};
#pragma omp parallel
  {
    std::vector<float> scale(channels), offset(channels);
#pragma omp for
    for (std::int64_t i = 0; i < pictures; ++i) {
      const Half* from = x + i * pixels * channels;
      Half* to = y + i * pixels * channels;
      const float* moved = shift ? shift + i * channels : nullptr;
      float* found = statistics + 2 * i * groups;
      measure(n, from, moved, epsilon, scale.data(), offset.data(), found);
      coefficients(n, moved, gamma, beta, found, scale.data(), offset.data());
      const float *a = scale.data(), *b = offset.data();
      for (std::int64_t p = 0; p < pixels; ++p) {
        for (std::int64_t c = 0; c < channels; ++c) {
          const float z = a[c] * to_float(from[p * channels + c]) + b[c];
          to[p * channels + c] = to_half(silu ? z / (1.0F + std::exp(-z)) : z);
        }
      }
    }
  }
}

/// From dy the derivatives by x, and by shift, gamma and beta [pictures, channels] each.
extern "C" void norm_silu_back(const Half* x, const float* shift, const float* gamma,
                               const float* beta, const float* statistics, const Half* dy,
                               const Half* bypass, int silu, std::int64_t pictures,
                               std::int64_t pixels, std::int64_t channels, std::int64_t groups,
                               Half* dx, float* dshift, float* dgamma, float* dbeta) {
  const Sizes n{pictures, pixels, channels, groups};
  const std::int64_t C = channels, members = C / groups;
  const float count = static_cast<float>(members * pixels);
#pragma omp parallel
  {
    std::vector<float> scale(C), offset(C), sum_x(C), sum_dz(C), sum_dz_x(C), slope(pixels * C);
    std::vector<float> of_dz(C), of_x(C), of_one(C);
#pragma omp for
    for (std::int64_t i = 0; i < pictures; ++i) {
      const Half *from = x + i * pixels * C, *up = dy + i * pixels * C;
      const Half* around = bypass ? bypass + i * pixels * C : nullptr;
      const float* moved = shift ? shift + i * C : nullptr;
      const float* found = statistics + 2 * i * groups;
      coefficients(n, moved, gamma, beta, found, scale.data(), offset.data());
      float *sx = sum_x.data(), *sz = sum_dz.data(), *szx = sum_dz_x.data(), *dz = slope.data();
      std::fill(sx, sx + C, 0.0F);
      std::fill(sz, sz + C, 0.0F);
      std::fill(szx, szx + C, 0.0F);
      const float *a = scale.data(), *b = offset.data();
      for (std::int64_t p = 0; p < pixels; ++p) {
        for (std::int64_t c = 0; c < C; ++c) {
          const float v = to_float(from[p * C + c]), z = a[c] * v + b[c];
          const float s = 1.0F / (1.0F + std::exp(-z));
          const float d = to_float(up[p * C + c]) * (silu ? s * (1.0F + z * (1.0F - s)) : 1.0F);
          dz[p * C + c] = d;
          sx[c] += v;
          sz[c] += d;
          szx[c] += d * v;
        }
      }
      // dx = (gamma dz - mean(gamma dz) - xhat mean(gamma dz xhat)) / deviation is, in a channel,
      // a combination of dz, x and 1.
      for (std::int64_t g = 0; g < groups; ++g) {
        const float mean = found[2 * g], rate = found[2 * g + 1];
        float first = 0, second = 0;
        for (std::int64_t c = g * members; c < (g + 1) * members; ++c) {
          const float centre = (moved ? moved[c] : 0.0F) - mean;
          const float by_gamma = rate * (szx[c] + centre * sz[c]);
          dgamma[i * C + c] = by_gamma;
          dbeta[i * C + c] = sz[c];
          first += gamma[c] * sz[c];
          second += gamma[c] * by_gamma;
        }
        first /= count;
        second /= count;
        for (std::int64_t c = g * members; c < (g + 1) * members; ++c) {
          const float centre = (moved ? moved[c] : 0.0F) - mean;
          of_dz[c] = rate * gamma[c];
          of_x[c] = -rate * rate * second;
          of_one[c] = -rate * (first + rate * second * centre);
          if (dshift) {
            dshift[i * C + c] =
                of_dz[c] * sz[c] + of_x[c] * sx[c] + of_one[c] * static_cast<float>(pixels);
          }
        }
      }
      Half* to = dx + i * pixels * C;
      const float *u = of_dz.data(), *v = of_x.data(), *w = of_one.data();
      for (std::int64_t p = 0; p < pixels; ++p) {
        for (std::int64_t c = 0; c < C; ++c) {
          const float by_x = u[c] * dz[p * C + c] + v[c] * to_float(from[p * C + c]) + w[c];
          to[p * C + c] = to_half(by_x + (around ? to_float(around[p * C + c]) : 0.0F));
        }
      }
    }
  }
}

/// a += b, count numbers.
extern "C" void add_to(Half* a, const Half* b, std::int64_t count) {
#pragma omp parallel for
  for (std::int64_t i = 0; i < count; ++i) {
    a[i] = to_half(to_float(a[i]) + to_float(b[i]));
  }
}

/// The sum over pixels of every channel: x [pixels, channels].
extern "C" void sum_pixels(const Half* x, std::int64_t pixels, std::int64_t channels, float* sum) {
  std::fill(sum, sum + channels, 0.0F);
  for (std::int64_t p = 0; p < pixels; ++p) {
    for (std::int64_t c = 0; c < channels; ++c) {
      sum[c] += to_float(x[p * channels + c]);
    }
  }
}

/// Every pixel four times: x [rows, columns, channels], rows of all pictures, y twice as wide and
/// high.
extern "C" void enlarge(const Half* x, std::int64_t rows, std::int64_t columns,
                        std::int64_t channels, Half* y) {
  const std::int64_t line = 2 * columns * channels;
#pragma omp parallel for
  for (std::int64_t r = 0; r < rows; ++r) {
    Half* to = y + 2 * r * line;
    for (std::int64_t k = 0; k < columns; ++k) {
      const Half* from = x + (r * columns + k) * channels;
      std::copy(from, from + channels, to + 2 * k * channels);
      std::copy(from, from + channels, to + (2 * k + 1) * channels);
    }
    std::copy(to, to + line, to + line);
  }
}

/// The transpose of enlarge: sums of four.
extern "C" void enlarge_back(const Half* dy, std::int64_t rows, std::int64_t columns,
                             std::int64_t channels, Half* dx) {
  const std::int64_t line = 2 * columns * channels;
#pragma omp parallel for
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t k = 0; k < columns; ++k) {
      const Half* from = dy + 2 * r * line + 2 * k * channels;
      Half* to = dx + (r * columns + k) * channels;
      for (std::int64_t c = 0; c < channels; ++c) {
        to[c] = to_half((to_float(from[c]) + to_float(from[channels + c])) +
                        (to_float(from[line + c]) + to_float(from[line + channels + c])));
      }
    }
  }
}
