// texture.h: two-dimensional textures and samplers of <metal_texture>.
//
// Sampling follows the definition: normalised or pixel coordinates, texel centres at half numbers,
// weights in float32. GPUs use weights of fewer bits, so that a picture differs in the last digits.
// Level 0 is the only one.
#pragma once
#include <metal4conv_stand_in/language.h>
#include <metal4conv_stand_in/lanes.h>
#include <metal4conv_stand_in/math.h>

namespace metal {

enum class access { sample, read, write, read_write };
enum class coord { normalized, pixel };
enum class filter { nearest, linear };
enum class mag_filter { nearest, linear };
enum class min_filter { nearest, linear };
enum class mip_filter { none, nearest, linear };
enum class address { clamp_to_zero, clamp_to_edge, repeat, mirrored_repeat, clamp_to_border };
enum class s_address { clamp_to_zero, clamp_to_edge, repeat, mirrored_repeat, clamp_to_border };
enum class t_address { clamp_to_zero, clamp_to_edge, repeat, mirrored_repeat, clamp_to_border };

struct level {
    float lod;
    explicit constexpr level(float value) : lod(value) {}
};

struct sampler {
    bool is_linear = false;
    bool is_normalized = true;
    address s = address::clamp_to_edge;
    address t = address::clamp_to_edge;

    template <class... Options>
    constexpr sampler(Options... options) {
        (set(options), ...);
    }
    constexpr void set(coord value) { is_normalized = value == coord::normalized; }
    constexpr void set(filter value) { is_linear = value == filter::linear; }
    constexpr void set(mag_filter value) { is_linear = value == mag_filter::linear; }
    constexpr void set(min_filter value) { is_linear = value == min_filter::linear; }
    constexpr void set(mip_filter) {}
    constexpr void set(address value) { s = t = value; }
    constexpr void set(s_address value) { s = address(value); }
    constexpr void set(t_address value) { t = address(value); }
};

template <class T, access A = access::sample>
struct texture2d {
    static_assert(is_same_v<T, float> || is_same_v<T, half>,
                  "rule: the stand-in has textures of float and half");
    const unsigned char *texels = nullptr;
    int width = 0, height = 0, bytes_per_row = 0;
    int pixel_format = 0;  // MTLPixelFormat

    uint get_width(uint = 0) const { return uint(width); }
    uint get_height(uint = 0) const { return uint(height); }

    vec<T, 4> read(vec<uint, 2> at, uint = 0) const {
        static_assert(A != access::write, "rule: a texture with access::write cannot be read");
        if (at.x >= uint(width) || at.y >= uint(height)) return {};
        return converted(texel(int(at.x), int(at.y)));
    }
    vec<T, 4> read(vec<ushort, 2> at, ushort = 0) const {
        return read(vec<uint, 2>{at.x, at.y});
    }

    vec<T, 4> sample(sampler how, vec<float, 2> at) const { return sample(how, at, level(0)); }
    vec<T, 4> sample(sampler how, vec<float, 2> at, level) const {
        static_assert(A == access::sample, "rule: a texture that is sampled has access::sample");
        float x = how.is_normalized ? at.x * float(width) : at.x;
        float y = how.is_normalized ? at.y * float(height) : at.y;
        if (!how.is_linear)
            return converted(addressed(how, int(floor(x)), int(floor(y))));
        float left = floor(x - 0.5f), top = floor(y - 0.5f);
        float right_part = x - 0.5f - left, lower_part = y - 0.5f - top;
        int column = int(left), row = int(top);
        vec<float, 4> upper = mix(addressed(how, column, row), addressed(how, column + 1, row),
                                  right_part);
        vec<float, 4> lower = mix(addressed(how, column, row + 1),
                                  addressed(how, column + 1, row + 1), right_part);
        return converted(mix(upper, lower, lower_part));
    }

    static vec<T, 4> converted(vec<float, 4> value) {
        return __builtin_convertvector(value, vec<T, 4>);
    }

    // The texel that a coordinate outside of the texture stands for; -1 for none.
    static int wrapped(int at, int size, address how) {
        if (at >= 0 && at < size) return at;
        int period = how == address::mirrored_repeat ? 2 * size : size;
        int rest = ((at % period) + period) % period;
        switch (how) {
            case address::clamp_to_edge: return at < 0 ? 0 : size - 1;
            case address::repeat: return rest;
            case address::mirrored_repeat: return rest < size ? rest : period - 1 - rest;
            default: return -1;
        }
    }

    vec<float, 4> addressed(sampler how, int x, int y) const {
        int column = wrapped(x, width, how.s), row = wrapped(y, height, how.t);
        if (column < 0 || row < 0) return {};
        return texel(column, row);
    }

    vec<float, 4> texel(int x, int y) const {
        const unsigned char *line = texels + size_t(y) * size_t(bytes_per_row);
        vec<float, 4> result{0.0f, 0.0f, 0.0f, 1.0f};
        switch (pixel_format) {
            case 10: return stored<uchar, 1>(line, x, 255.0f, result);   // r8Unorm
            case 25: return stored<half, 1>(line, x, 1.0f, result);      // r16Float
            case 30: return stored<uchar, 2>(line, x, 255.0f, result);   // rg8Unorm
            case 55: return stored<float, 1>(line, x, 1.0f, result);     // r32Float
            case 65: return stored<half, 2>(line, x, 1.0f, result);      // rg16Float
            case 70: return stored<uchar, 4>(line, x, 255.0f, result);   // rgba8Unorm
            case 115: return stored<half, 4>(line, x, 1.0f, result);     // rgba16Float
            case 125: return stored<float, 4>(line, x, 1.0f, result);    // rgba32Float
        }
        metal4conv_stand_in::fail("the stand-in has no textures of MTLPixelFormat %d",
                                  pixel_format);
    }

    template <class Stored, int Channels>
    static vec<float, 4> stored(const unsigned char *line, int x, float one,
                                vec<float, 4> result) {
        const Stored *at = (const Stored *)line + x * Channels;
        for (int i = 0; i < Channels; ++i) result[i] = float(at[i]) / one;
        return result;
    }
};

}  // namespace metal
