/* SoftHSM2 with faults: what its own C_SignInit, C_Sign and C_OpenSession say is changed on the way, all else is as it
   says. CKM_SHA384_RSA_PKCS gives wrong signatures, CKM_SHA512_RSA_PKCS ends in FAULT (abort: it crashes; pause: it
   hangs), and there are at most MOST_SESSIONS sessions. */

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CKR_GENERAL_ERROR 0x05UL
#define CKR_SESSION_COUNT 0xb1UL
#define CKM_SHA384_RSA_PKCS 0x41UL
#define CKM_SHA512_RSA_PKCS 0x42UL

typedef unsigned long ulong_t;
typedef struct { ulong_t mechanism; void *parameter; ulong_t length; } mechanism_t;

/* CK_FUNCTION_LIST: a version, then 68 functions in the order of the standard. */
typedef struct { void *version; void *functions[68]; } list_t;
enum { GET_FUNCTION_LIST = 3, OPEN_SESSION = 12, CLOSE_SESSION = 13, SIGN_INIT = 42, SIGN = 43 };

static list_t *real;
static list_t own;
static int sessions;
static _Thread_local ulong_t mechanism;

static ulong_t open_session(ulong_t slot, ulong_t flags, void *application, void *notify, ulong_t *session)
{
    ulong_t (*open)(ulong_t, ulong_t, void *, void *, ulong_t *) = real->functions[OPEN_SESSION];
    if (sessions >= MOST_SESSIONS)
        return CKR_SESSION_COUNT;
    ulong_t result = open(slot, flags, application, notify, session);
    sessions += result == 0;
    return result;
}

static ulong_t close_session(ulong_t session)
{
    ulong_t (*close)(ulong_t) = real->functions[CLOSE_SESSION];
    sessions--;
    return close(session);
}

static ulong_t sign_init(ulong_t session, mechanism_t *asked, ulong_t key)
{
    ulong_t (*init)(ulong_t, mechanism_t *, ulong_t) = real->functions[SIGN_INIT];
    if (asked->mechanism == CKM_SHA512_RSA_PKCS)
        FAULT();
    mechanism = asked->mechanism;
    return init(session, asked, key);
}

static ulong_t sign(ulong_t session, unsigned char *data, ulong_t length, unsigned char *signature, ulong_t *room)
{
    ulong_t (*sign)(ulong_t, unsigned char *, ulong_t, unsigned char *, ulong_t *) = real->functions[SIGN];
    ulong_t result = sign(session, data, length, signature, room);
    if (result == 0 && signature != NULL && mechanism == CKM_SHA384_RSA_PKCS)
        signature[*room - 1] ^= 1;
    return result;
}

ulong_t C_GetFunctionList(list_t **list)
{
    void *library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
    ulong_t (*functions)(list_t **) = NULL;
    if (library != NULL)
        functions = (ulong_t (*)(list_t **))dlsym(library, "C_GetFunctionList");
    if (functions == NULL || functions(&real) != 0)
        return CKR_GENERAL_ERROR;
    memcpy(&own, real, sizeof own);
    own.functions[GET_FUNCTION_LIST] = C_GetFunctionList;
    own.functions[OPEN_SESSION] = open_session;
    own.functions[CLOSE_SESSION] = close_session;
    own.functions[SIGN_INIT] = sign_init;
    own.functions[SIGN] = sign;
    *list = &own;
    return 0;
}
