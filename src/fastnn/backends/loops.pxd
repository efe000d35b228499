# C types for loops.py, which Cython compiles as it stands. No code.
#
# `real` is float or double: one compiled function for each. Inputs are const, so read-only arrays pass.

cimport cython
cimport libc.math as math
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t

ctypedef fused real:
    float
    double

ctypedef fused stored:  # what a data set is kept in; other types go through NumPy
    float
    double
    uint8_t

cdef uint64_t MULTIPLIER_0, MULTIPLIER_1, WEYL_0, WEYL_1, LOW
cdef double WIDE, LARGE

@cython.locals(i=Py_ssize_t, k=Py_ssize_t, B=Py_ssize_t, I=Py_ssize_t, row=int64_t)
cpdef void cast_forward(const stored[:, :] data, const int64_t[::1] rows, real[:, ::1] a) noexcept nogil

@cython.locals(i=Py_ssize_t, k=Py_ssize_t, B=Py_ssize_t, I=Py_ssize_t, row=int64_t)
cpdef void normalize_forward(
    const stored[:, :] data, const int64_t[::1] rows, const double[::1] shift, const double[::1] scale, real[:, ::1] a
) noexcept nogil

@cython.locals(i=Py_ssize_t, k=Py_ssize_t, o=Py_ssize_t, B=Py_ssize_t, I=Py_ssize_t, O=Py_ssize_t, xk=real)
cpdef void affine(const real[:, ::1] x, const real[:, ::1] w, const real[::1] b, real[:, ::1] z) noexcept nogil

@cython.locals(i=Py_ssize_t, k=Py_ssize_t, o=Py_ssize_t, B=Py_ssize_t, I=Py_ssize_t, O=Py_ssize_t, total=real)
cpdef void backward_input(const real[:, ::1] dz, const real[:, ::1] w, real[:, ::1] dx) noexcept nogil

@cython.locals(i=Py_ssize_t, k=Py_ssize_t, o=Py_ssize_t, B=Py_ssize_t, I=Py_ssize_t, O=Py_ssize_t, xk=real)
cpdef void backward_weights(
    const real[:, ::1] x, const real[:, ::1] dz, real[:, ::1] dw, real[::1] db
) noexcept nogil

@cython.locals(i=Py_ssize_t, j=Py_ssize_t, B=Py_ssize_t, O=Py_ssize_t, top=real, total=real, scale=real)
cpdef void softmax_forward(const real[:, ::1] x, real[:, ::1] a) noexcept nogil

@cython.locals(i=Py_ssize_t, j=Py_ssize_t, B=Py_ssize_t, O=Py_ssize_t, total=real)
cpdef void softmax_backward(const real[:, ::1] a, const real[:, ::1] da, real[:, ::1] dx) noexcept nogil

@cython.locals(
    i=Py_ssize_t, o=Py_ssize_t, p=Py_ssize_t, B=Py_ssize_t, O=Py_ssize_t, pieces=Py_ssize_t,
    first=int32_t, best=real, candidate=real,
)
cpdef void maxout_forward(const real[:, ::1] x, real[:, ::1] a, int32_t[:, ::1] winner) noexcept nogil

@cython.locals(i=Py_ssize_t, o=Py_ssize_t, p=Py_ssize_t, B=Py_ssize_t, O=Py_ssize_t, pieces=Py_ssize_t)
cpdef void maxout_backward(const int32_t[:, ::1] winner, const real[:, ::1] da, real[:, ::1] dx) noexcept nogil

@cython.locals(i=Py_ssize_t, j=Py_ssize_t, B=Py_ssize_t, O=Py_ssize_t)
cpdef void prelu_forward(const real[:, ::1] x, const real[::1] slope, real[:, ::1] a) noexcept nogil

@cython.locals(i=Py_ssize_t, j=Py_ssize_t, B=Py_ssize_t, O=Py_ssize_t, negative=real)
cpdef void prelu_backward(
    const real[:, ::1] x, const real[::1] slope, double[:, ::1] sums, const real[:, ::1] da, real[:, ::1] dx,
    real[::1] dslope
) noexcept nogil

@cython.locals(i=Py_ssize_t, n=Py_ssize_t, count=int64_t, place=int64_t, row=int64_t)
cpdef void shuffle(const int64_t[::1] bits, int64_t[::1] order) noexcept nogil

@cython.locals(
    block=Py_ssize_t, _=int, c0=uint64_t, c1=uint64_t, c2=uint64_t, c3=uint64_t, k0=uint64_t, k1=uint64_t,
    p0=uint64_t, p1=uint64_t,
)
cpdef void random_bits(
    uint64_t seed_low, uint64_t seed_high, uint64_t step_low, uint64_t step_high, uint64_t op, uint32_t[::1] bits
) noexcept nogil

@cython.locals(i=Py_ssize_t, j=Py_ssize_t, B=Py_ssize_t, O=Py_ssize_t)
cpdef void dropout_forward(
    const real[:, ::1] x, const uint32_t[:, ::1] bits, uint64_t threshold, real scale, real[:, ::1] a
) noexcept nogil

@cython.locals(i=Py_ssize_t, j=Py_ssize_t, B=Py_ssize_t, O=Py_ssize_t, slope=double)
cpdef void rrelu_forward(
    const real[:, ::1] x, double lower, double width, const uint32_t[:, ::1] bits, real[:, ::1] a
) noexcept nogil

@cython.locals(i=Py_ssize_t, j=Py_ssize_t, B=Py_ssize_t, O=Py_ssize_t, slope=double)
cpdef void rrelu_backward(
    const real[:, ::1] x, double lower, double width, const uint32_t[:, ::1] bits, const real[:, ::1] da,
    real[:, ::1] dx
) noexcept nogil

@cython.locals(s=Py_ssize_t, j=Py_ssize_t)
cpdef void clear(double[:, ::1] sums) noexcept nogil

@cython.locals(s=Py_ssize_t)
cpdef void large_moments(
    const real[:, ::1] x, Py_ssize_t i, Py_ssize_t j, Py_ssize_t down, Py_ssize_t count, double[:, ::1] sums,
    Py_ssize_t k
) noexcept nogil

@cython.locals(i=Py_ssize_t, j=Py_ssize_t, B=Py_ssize_t, O=Py_ssize_t, peak=double)
cpdef void batch_norm_forward(
    const real[:, ::1] x, const real[::1] gamma, const real[::1] beta, real momentum, real epsilon, real unbias,
    double[:, ::1] sums, real[::1] running_mean, real[::1] running_var, real[::1] mean,
    real[::1] inv_std, real[:, ::1] a
) noexcept nogil

@cython.locals(i=Py_ssize_t, j=Py_ssize_t, B=Py_ssize_t, O=Py_ssize_t, inv_std=real)
cpdef void batch_norm_predict(
    const real[:, ::1] x, const real[::1] gamma, const real[::1] beta, real epsilon, const real[::1] running_mean,
    const real[::1] running_var, real[:, ::1] a
) noexcept nogil

@cython.locals(i=Py_ssize_t, j=Py_ssize_t, B=Py_ssize_t, O=Py_ssize_t, x_hat=real)
cpdef void batch_norm_backward(
    const real[:, ::1] x, const real[::1] gamma, const real[::1] mean, const real[::1] inv_std, real row_share,
    double[:, ::1] sums, const real[:, ::1] da, real[:, ::1] dx, real[::1] dgamma, real[::1] dbeta
) noexcept nogil

@cython.locals(
    i=Py_ssize_t, j=Py_ssize_t, B=Py_ssize_t, O=Py_ssize_t, total=double, centre=double, unit=double, scale=double
)
cpdef void layer_norm_forward(
    const real[:, ::1] x, const real[::1] gamma, const real[::1] beta, real epsilon, double start,
    double[:, ::1] sums, real[::1] mean, real[::1] inv_std, real[:, ::1] a
) noexcept nogil

@cython.locals(
    i=Py_ssize_t, j=Py_ssize_t, B=Py_ssize_t, O=Py_ssize_t, centre=real, scale=real, total=double, product=double,
    x_hat=real,
)
cpdef void layer_norm_backward(
    const real[:, ::1] x, const real[::1] gamma, const real[::1] mean, const real[::1] inv_std, real share,
    double start, double[:, ::1] sums, const real[:, ::1] da, real[:, ::1] dx, real[::1] dgamma, real[::1] dbeta
) noexcept nogil

@cython.locals(
    i=Py_ssize_t, j=Py_ssize_t, B=Py_ssize_t, O=Py_ssize_t, label=int64_t, rest=real, top=real, total=real,
    inner=real, shifted=real, e=real, scale=real,
)
cpdef void cross_entropy_labels(
    real smoothing, real share, const real[:, ::1] z, const int64_t[::1] y, const real[::1] weight,
    real[::1] value, real[:, ::1] dz
) noexcept nogil

@cython.locals(
    i=Py_ssize_t, j=Py_ssize_t, B=Py_ssize_t, O=Py_ssize_t, rest=real, top=real, total=real, inner=real, mass=real,
    shifted=real, e=real, q=real, scale=real,
)
cpdef void cross_entropy_values(
    real smoothing, real share, const real[:, ::1] z, const real[:, ::1] y, const real[::1] weight,
    real[::1] value, real[:, ::1] dz
) noexcept nogil

@cython.locals(
    i=Py_ssize_t, j=Py_ssize_t, B=Py_ssize_t, O=Py_ssize_t, label=int64_t, rival=Py_ssize_t, right=real,
    worst=real, margin=real,
)
cpdef void hinge(
    const real[:, ::1] z, const int64_t[::1] y, const real[::1] weight, real[::1] value, real[:, ::1] dz
) noexcept nogil

@cython.locals(i=Py_ssize_t, total=double, element=double)
cpdef double squared_norm(const real[::1] g) noexcept nogil
