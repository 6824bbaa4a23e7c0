//! Who asks, for which tenant, and what a route takes.
//!
//! There are no credentials yet: everybody may do everything, and a client names its tenant by `X-Scope-OrgID`. What is
//! here already is the shape: each row of the route table has a [`Permission`], each handler gets an [`AuthContext`]
//! and takes the tenant from nowhere else, and [`authorize`] is the one place that says no.

use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use protocol::error::ErrorKind;
use protocol::ids::TenantId;

use crate::error::ApiError;

/// Header that names the tenant.
pub const TENANT_HEADER: &str = "x-scope-orgid";

/// What a route takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// Nothing: health and the description of the API.
    Public,
    /// Reading a tenant's data.
    Read,
    /// Writing a tenant's data.
    Write,
    /// Seeing the state of the cluster.
    Observe,
    /// Changing the cluster.
    Administer,
}

impl Permission {
    /// Name in the API's description.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Read => "read",
            Self::Write => "write",
            Self::Observe => "observe",
            Self::Administer => "administer",
        }
    }
}

/// On whose behalf a request runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthContext {
    /// Whose data.
    pub tenant: TenantId,
}

/// Decides whether a request may pass.
pub fn authorize(permission: Permission, headers: &HeaderMap) -> Result<AuthContext, ApiError> {
    let name = headers
        .get(TENANT_HEADER)
        .map(|value| value.to_str().map_err(|_| ApiError::bad_data("X-Scope-OrgID is not ASCII")))
        .transpose()?;
    authorize_tenant(permission, name).map_err(|error| ApiError::bad_data(format!("X-Scope-OrgID: {error}")))
}

/// The same for protocols that name the tenant elsewhere.
pub fn authorize_tenant(_permission: Permission, name: Option<&str>) -> Result<AuthContext, ApiError> {
    let tenant = match name {
        None => TenantId::default(),
        Some(name) => TenantId::new(name).map_err(|error| ApiError::bad_data(error.to_string()))?,
    };
    Ok(AuthContext { tenant })
}

/// The layer of each route.
pub async fn layer(State(permission): State<Permission>, mut request: Request, next: Next) -> Response {
    match authorize(permission, request.headers()) {
        Ok(context) => {
            request.extensions_mut().insert(context);
            next.run(request).await
        }
        Err(error) => error.into_response(),
    }
}

impl AuthContext {
    /// The context that the layer left.
    pub fn of(extensions: &Extensions) -> Result<Self, ApiError> {
        extensions
            .get::<Self>()
            .cloned()
            .ok_or_else(|| ApiError::new(ErrorKind::Internal, "a route without a context"))
    }
}

impl<S: Sync> FromRequestParts<S> for AuthContext {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        Self::of(&parts.extensions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tenant_comes_from_the_header_or_is_the_default() {
        let mut headers = HeaderMap::new();
        assert_eq!(authorize(Permission::Read, &headers).unwrap().tenant.as_str(), "default");
        headers.insert(TENANT_HEADER, "team-a".parse().unwrap());
        assert_eq!(authorize(Permission::Read, &headers).unwrap().tenant.as_str(), "team-a");
        for bad in ["a/b", "..", ""] {
            headers.insert(TENANT_HEADER, bad.parse().unwrap());
            assert_eq!(
                authorize(Permission::Read, &headers).unwrap_err().kind(),
                ErrorKind::InvalidInput,
                "{bad}"
            );
        }
    }
}
